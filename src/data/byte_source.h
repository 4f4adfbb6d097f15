#pragma once
// The bytes of a text file as a stream, decompressed on the way when its name ends with .gz or .zst. What the programs
// gzip and zstd read is read: several gzip members or zstd frames one after another are one stream, zero bytes behind a
// gzip member and skippable zstd frames are passed over, a zstd window may have up to 2 GiB.
// Memory: two fixed buffers and the decompressor's window, which for zstd is as large as the frame asks. Errors name
// the file and the byte in it: no such file, a stream that breaks off, damaged data, trailing garbage.
#include <cstddef>
#include <memory>
#include <string>

namespace strand {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// Up to `capacity` bytes into `out`; 0 only at the end.
  virtual size_t read(char* out, size_t capacity) = 0;
};

std::unique_ptr<ByteSource> open_byte_source(const std::string& path);

/// `path` without a trailing .gz or .zst.
std::string without_compression_suffix(const std::string& path);

}  // namespace strand
