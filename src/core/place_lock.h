#pragma once
// A PlaceLock makes sure that only one process at a time writes to a directory or an output file, among all processes
// of all hosts that share the file system.
//
// The lock is the kernel's own, on a hidden file. It ends with the process that holds it, in whatever way that process
// ends, so a file that a killed process left behind never keeps anybody out. On network file systems such as NFS the
// server holds the lock. Where a file system has no locks, a warning says so and the work goes on without a lock.
#include <memory>
#include <string>
#include <vector>

#include "core/temporary_path.h"

namespace strand {

class PlaceLock {
 public:
  /// Two texts for messages: which command asks for the lock ("strand train"), which another process is told that does
  /// not get it; and what this process may do when it does not get the lock ("set another run.name").
  struct Request {
    std::string command;
    std::string otherwise;
  };

  /// Locks a directory by its file `.lock`. The directory is created if it is missing. Throws Error that names the host
  /// and the process that hold the lock, when another process does.
  static PlaceLock of_directory(const std::string& directory, const Request& request);
  /// Locks what will be written at `path` (a file, a directory, or the common beginning of several files), by the file
  /// `.NAME.lock` beside it. Throws Error as of_directory does.
  static PlaceLock of_output(const std::string& path, const Request& request);
  /// For the other processes of a run whose first process holds the directory's lock: as long as one process of the run
  /// lives, no process of another run gets the lock. It does nothing where the directory cannot be seen.
  static PlaceLock join_directory(const std::string& directory);

  PlaceLock(PlaceLock&& other) noexcept;
  PlaceLock& operator=(PlaceLock&&) = delete;
  /// Removes the lock's file, and the directories that were created for it when they are empty.
  ~PlaceLock();

 private:
  PlaceLock() = default;
  void open_and_lock(const std::string& place, const Request& request);
  bool is_still_there() const;
  void say_who(const Request& request) const;

  std::string path_;
  int descriptor_ = -1;
  bool owner_ = false;
  std::unique_ptr<TemporaryPath> on_signal_;  ///< held by the owner: a signal that ends the process removes the file
  std::vector<std::string> created_;          ///< directories, the innermost first
};

}  // namespace strand
