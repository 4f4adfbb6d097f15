#pragma once
// One writer at a time to a directory or an output file, over all processes of all hosts that share the file system.
//
// The lock is the kernel's, on an empty-looking hidden file: it ends with its process, however that ends, so that a
// file that a killed process left never keeps anybody out. On NFS and other network file systems the server holds it.
// Where a file system has no locks, a warning says so, and the work goes on without one.
#include <memory>
#include <string>
#include <vector>

#include "core/temporary_path.h"

namespace strand {

class PlaceLock {
 public:
  /// Who asks, for the message that another process gets ("strand train"), and what this one may do instead of waiting
  /// ("set another run.name").
  struct Request {
    std::string command;
    std::string otherwise;
  };

  /// For the whole of a directory, which is created if it is not there: its file `.lock`. Throws Error naming host and
  /// process of whoever has it.
  static PlaceLock of_directory(const std::string& directory, const Request& request);
  /// For what will be at `path` (a file, a directory, the common beginning of several files): `.NAME.lock` beside it.
  static PlaceLock of_output(const std::string& path, const Request& request);
  /// For other processes of the run whose first process has the directory's lock: as long as one of them lives, nobody
  /// else gets it. Without effect where the directory cannot be seen.
  static PlaceLock join_directory(const std::string& directory);

  PlaceLock(PlaceLock&& other) noexcept;
  PlaceLock& operator=(PlaceLock&&) = delete;
  /// Removes the lock's file, and the directories that were created for it if nothing else is in them.
  ~PlaceLock();

 private:
  PlaceLock() = default;
  void open_and_lock(const std::string& place, const Request& request);
  bool is_still_there() const;
  void say_who(const Request& request) const;

  std::string path_;
  int descriptor_ = -1;
  bool owner_ = false;
  std::unique_ptr<TemporaryPath> on_signal_;  ///< of an owner: a signal that ends the process removes the file
  std::vector<std::string> created_;          ///< directories, the innermost first
};

}  // namespace strand
