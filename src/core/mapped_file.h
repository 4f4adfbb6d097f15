#pragma once
// A file mapped into memory, read only. Pages come from the disk when they are first read, so opening a file costs
// nothing, and a file may be larger than memory. Through data(), nobody may shorten the file while it is mapped: the
// system would answer a read past the new end with SIGBUS. To replace the file by a rename is safe. read() needs no
// such promise: it is for what is read again and again while a long run goes on.
#include <cstddef>
#include <cstdint>
#include <string>

namespace strand {

class MappedFile {
 public:
  MappedFile() = default;
  /// Throws Error naming the path when it cannot be opened or is no regular file.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  const std::byte* data() const { return data_; }
  uint64_t size() const { return size_; }  ///< bytes, when it was opened
  /// Copies bytes [begin, begin + bytes) to `out`. Throws Error naming the path when the file has become shorter, or
  /// the disk cannot read it.
  void read(uint64_t begin, size_t bytes, void* out) const;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  uint64_t size_ = 0;
  int descriptor_ = -1;
};

}  // namespace strand
