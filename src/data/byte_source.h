#pragma once
// The bytes of a text file as a stream. A file whose name ends with .gz or .zst is decompressed while it is read.
// Everything that the programs gzip and zstd accept is accepted: several gzip members or zstd frames one after the
// other are one stream, zero bytes after a gzip member and skippable zstd frames are ignored, and a zstd window may
// have up to 2 GiB. It takes two fixed buffers and the decompressor's window, which for zstd is as large as the frame
// asks for. Errors (a missing file, a stream that breaks off, damaged data, other bytes after the end) name the file
// and the byte.
#include <cstddef>
#include <memory>
#include <string>

namespace strand {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// Writes up to `capacity` bytes to `out` and returns how many. It returns 0 only at the end.
  virtual size_t read(char* out, size_t capacity) = 0;
};

std::unique_ptr<ByteSource> open_byte_source(const std::string& path);

/// `path` without a trailing .gz or .zst.
std::string without_compression_suffix(const std::string& path);

}  // namespace strand
