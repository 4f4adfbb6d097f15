#pragma once
// One file of a group of files that appear together. seal() writes all bytes to the disk, and publish() gives the file
// its name. All files of the group are sealed first; then they are published, and last the one that readers look for.
// Unlike an AtomicFile (core/file_io.h) it can also read and overwrite what it has written.
//
// Until publish() the file has no name at all (O_TMPFILE), so that nothing is left in whatever way the process ends.
// Where the file system does not allow that, or /proc is missing, the file is called `<path>.tmp`. It is then removed
// by the destructor or when a signal ends the process (core/temporary_path.h); after a SIGKILL it stays until the next
// writer of this path removes it.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/temporary_path.h"

namespace strand {

class OutputFile {
 public:
  static constexpr size_t buffer_bytes = size_t{1} << 20;  ///< are gathered before they are handed to the system

  enum class Kind { without_name_if_possible, with_temporary_name };

  /// Creates the file, and the directories above it that are missing. Throws Error naming the path.
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

  /// Makes sure that all bytes are on the disk. Nothing can be written afterwards.
  void seal();
  /// Gives the file its final name, in one step. seal() has to be called before.
  void publish();

  uint64_t size() const { return size_; }  ///< bytes written so far
  const std::string& path() const { return path_; }

 private:
  bool open_without_name();
  void flush();

  std::string path_;
  std::string temporary_;
  int descriptor_ = -1;
  bool has_name_ = false;  // whether `temporary_` is the name of this file
  bool sealed_ = false;
  std::optional<TemporaryPath> until_published_;  // exists while the file may have the temporary name
  uint64_t size_ = 0;
  std::vector<char> buffer_;
};

}  // namespace strand
