#pragma once
// A file of a group that appears together: seal() writes all bytes through to the disk, publish() gives the file its
// name. All files of the group are sealed first and then published, the one that readers look for last. Beyond
// AtomicFile (core/file_io.h) it can also go back and read or overwrite what it wrote.
//
// Until publish() the file has no name at all (O_TMPFILE), so that nothing is left whatever ends the process. Where the
// file system or a missing /proc does not allow that, it is called `<path>.tmp`, and goes in the destructor or with the
// signal that ends the process (core/temporary_path.h); after SIGKILL it stays until the next writer of this path.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/temporary_path.h"

namespace strand {

class OutputFile {
 public:
  static constexpr size_t buffer_bytes = size_t{1} << 20;  ///< gathered before they are handed to the system

  enum class Kind { without_name_if_possible, with_temporary_name };

  /// Creates the file (and the missing directories above it). Throws Error naming the path.
  explicit OutputFile(std::string path, Kind kind = Kind::without_name_if_possible);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(const void* data, size_t bytes);
  void write(std::string_view bytes) { write(bytes.data(), bytes.size()); }
  /// Overwrites bytes that were already written (a header whose counts are known only at the end).
  void write_at(uint64_t offset, const void* data, size_t bytes);
  /// Reads back bytes that were already written.
  void read_at(uint64_t offset, void* data, size_t bytes);

  /// Everything on the disk; nothing can be written after.
  void seal();
  /// The final name, in one step; requires seal().
  void publish();

  uint64_t size() const { return size_; }  ///< bytes written so far
  const std::string& path() const { return path_; }

 private:
  bool open_without_name();
  void flush();

  std::string path_;
  std::string temporary_;
  int descriptor_ = -1;
  bool has_name_ = false;  // `temporary_` is this file
  bool sealed_ = false;
  std::optional<TemporaryPath> until_published_;  // while it may have the temporary name
  uint64_t size_ = 0;
  std::vector<char> buffer_;
};

}  // namespace strand
