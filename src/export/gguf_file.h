#pragma once
// Writes GGUF files, version 3: the format of llama.cpp and of the programs that are built on it.
//
//   "GGUF" | u32 version | u64 tensors | u64 keys | keys with values | descriptions of tensors | padding | data
//
// All numbers are little-endian. A string is its length (u64) and its bytes. The data of each tensor begins at a
// multiple of 32 bytes from the beginning of the data. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/file_io.h"
#include "export/gguf_encoding.h"

namespace strand::gguf {

/// Keys with values, in the order in which they are added. No key may be added twice.
class Metadata {
 public:
  void add_u32(std::string_view key, uint32_t value);
  void add_f32(std::string_view key, float value);
  void add_bool(std::string_view key, bool value);
  void add_string(std::string_view key, std::string_view value);
  void add_strings(std::string_view key, std::span<const std::string> values);
  void add_f32s(std::string_view key, std::span<const float> values);
  void add_i32s(std::string_view key, std::span<const int32_t> values);

  uint64_t count() const { return count_; }
  const std::string& bytes() const { return bytes_; }  ///< as they are in the file

 private:
  std::string bytes_;
  uint64_t count_ = 0;
};

/// A tensor to be written.
struct StoredTensor {
  std::string name;            ///< at most longest_name bytes
  std::vector<int64_t> shape;  ///< the last number is the length of a row; the file has the opposite order
  Encoding encoding = Encoding::f32;
  /// Writes the elements [begin, begin + count) to `out`. The writer asks for the elements in order, each of them once.
  std::function<void(int64_t begin, int64_t count, float* out)> read;

  int64_t elements() const;
  uint64_t bytes() const { return encoded_bytes(encoding, static_cast<uint64_t>(elements())); }
};

inline constexpr int64_t piece_elements = int64_t{1} << 20;  ///< read and written at a time, where a row is no longer
inline constexpr size_t longest_name = 63;                   ///< bytes of the name of a tensor that ggml can hold

/// Writes a file, which appears when it is complete (AtomicFile). Tensors pass through memory in pieces of whole rows,
/// a few MB each. Throws Error naming file and tensor when a value is too large for the tensor's type.
FileDigest write_gguf(const std::string& path, const Metadata& metadata, std::span<const StoredTensor> tensors);

}  // namespace strand::gguf
