#pragma once
// A file of a group that appears together: bytes go to `<path>.tmp`, seal() writes them through to the disk, publish()
// renames. All files of the group are sealed first and then published, the one that readers look for last. Beyond
// AtomicFile (core/file_io.h) it can also go back and read or overwrite what it wrote. Destroyed before publish(), it
// leaves nothing behind.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace strand {

class OutputFile {
 public:
  /// Creates the temporary file (and the missing directories above it). Throws Error naming the path.
  explicit OutputFile(std::string path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(const void* data, size_t bytes);
  void write(std::string_view bytes) { write(bytes.data(), bytes.size()); }
  /// Overwrites bytes that were already written (a header whose counts are known only at the end).
  void write_at(uint64_t offset, const void* data, size_t bytes);
  /// Reads back bytes that were already written.
  void read_at(uint64_t offset, void* data, size_t bytes);

  /// Everything on the disk, file closed; nothing can be written after.
  void seal();
  /// The final name, in one step; requires seal().
  void publish();

  uint64_t size() const { return size_; }  ///< bytes written so far
  const std::string& path() const { return path_; }

 private:
  void flush();

  std::string path_;
  std::string temporary_;
  int descriptor_ = -1;
  bool published_ = false;
  uint64_t size_ = 0;
  std::vector<char> buffer_;
};

}  // namespace strand
