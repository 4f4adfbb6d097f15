#pragma once
// Files that must survive a crash. Everything that the program wants to find again is written with these functions:
// under a temporary name, then synced, then renamed; and the directory that holds the name is synced too.
//
// The functions call the system through FileLayer, whose functions are virtual, so that a test can make any one call
// fail (a full disk, a short write, a kill between two calls). Reading needs no such layer, because readers check what
// they read.
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/temporary_path.h"

namespace strand {

/// The system calls that change a disk, with POSIX meaning: -1 and errno on failure.
class FileLayer {
 public:
  virtual ~FileLayer() = default;
  virtual int open(const std::string& path, int flags, mode_t mode);
  virtual ssize_t write(int descriptor, const void* bytes, size_t count);
  virtual ssize_t write_at(int descriptor, const void* bytes, size_t count, uint64_t offset);
  virtual int fsync(int descriptor);
  virtual int close(int descriptor);
  /// Gives a name to an open file that was made without one (O_TMPFILE).
  virtual int give_name(int descriptor, const std::string& path);
  virtual int rename(const std::string& from, const std::string& to);
  /// Swaps two existing names in one step (Linux renameat2); EINVAL or ENOSYS where the file system cannot.
  virtual int exchange(const std::string& one, const std::string& other);
  virtual int unlink(const std::string& path);
  virtual int mkdir(const std::string& path, mode_t mode);
  virtual int rmdir(const std::string& path);
};

/// The layer in use: the system's own, unless a test has interposed another one.
FileLayer& file_layer();

/// Interposes `layer` in the whole process for the lifetime of this object. It is for tests, and must not be made or
/// destroyed while other threads write files.
class InterposedFileLayer {
 public:
  explicit InterposedFileLayer(FileLayer& layer);
  ~InterposedFileLayer();
  InterposedFileLayer(const InterposedFileLayer&) = delete;
  InterposedFileLayer& operator=(const InterposedFileLayer&) = delete;

 private:
  FileLayer* previous_;
};

/// What a file holds, short enough to write down: the digest is XXH3-64 as 16 hexadecimal digits (`xxhsum -H3` prints
/// the same).
struct FileDigest {
  uint64_t bytes = 0;
  std::string xxh3;
  bool operator==(const FileDigest&) const = default;
};

/// XXH3-64 of bytes that arrive in pieces.
class DigestStream {
 public:
  DigestStream();
  ~DigestStream();
  void add(const void* bytes, size_t count);
  FileDigest digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

inline constexpr size_t digest_block_bytes = size_t{1} << 20;  ///< read at a time by digest_of_file

/// Reads the whole file. Throws Error when it cannot be read.
FileDigest digest_of_file(const std::string& path);

/// A file that appears under its final name only when it is complete and on the disk. Until commit() the bytes go to
/// `<path>.tmp`. When the object is destroyed before commit(), or when a signal ends the process, nothing is left
/// behind. A SIGKILL may leave the temporary file, which the next writer of this path overwrites. Only one writer may
/// write to a path at a time.
class AtomicFile {
 public:
  /// Throws Error naming the path when it cannot be created (its directory must exist).
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* bytes, size_t count);
  void write(std::string_view bytes) { write(bytes.data(), bytes.size()); }
  /// Syncs and closes the file, renames it, and syncs the directory. A file of the same name is replaced in one step.
  FileDigest commit();

 private:
  std::string path_;
  std::string temporary_;
  TemporaryPath on_signal_;
  int descriptor_ = -1;
  bool committed_ = false;
  DigestStream digest_;
};

/// A file that grows at its end. Each write() hands its bytes to the system at once, so that they survive when the
/// process is killed. After sync() they survive a crash of the machine too.
class AppendFile {
 public:
  explicit AppendFile(std::string path);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  void write(std::string_view bytes);
  void sync();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int descriptor_ = -1;
};

/// Throws Error when a new file cannot take the place of what is at `path`: when a directory, a device, a pipe or a
/// socket is there. (A rename onto /dev/null would remove it.)
void require_replaceable(const std::string& path);

FileDigest write_file_atomically(const std::string& path, std::string_view bytes);

inline constexpr size_t piped_block_bytes = size_t{1} << 16;  ///< read at a time from a pipe

/// The contents of a file, or all that comes out of a pipe. Throws Error when it cannot be read or has more than
/// `limit` bytes. The size of a file is checked before anything is allocated.
std::string read_file(const std::string& path, uint64_t limit);

/// Creates the directory and the missing directories above it, and syncs each new entry. A directory that exists
/// already is no error.
void make_directories(const std::string& path);
void sync_directory(const std::string& path);
void rename_path(const std::string& from, const std::string& to);
/// Removes a file, or a directory with everything in it. Links are removed and not followed.
void remove_tree(const std::string& path);
/// The directory that holds `path`. For a name without a directory that is ".".
std::string parent_directory(const std::string& path);

}  // namespace strand
