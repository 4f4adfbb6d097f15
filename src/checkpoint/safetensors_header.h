#pragma once
// The header of a safetensors file (huggingface/safetensors), as text in and out; no file is touched here.
//   file = u64 little-endian n | n bytes of JSON | data
//   JSON = {"__metadata__": {string: string}, NAME: {"dtype": "F32", "shape": [..], "data_offsets": [begin, end]}, ..}
// Offsets count from the start of the data. The tensors cover the data exactly: in order of offset each begins where
// the one before ends, the first at 0, the last at the end of the file.
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"

namespace strand {

struct TensorEntry {
  std::string name;
  std::string dtype;          ///< as the format spells it: "F32", "BF16", "BOOL", ...
  std::optional<DType> type;  ///< the same as a type of this program; none for F16, BOOL, FP8, ...
  std::vector<int64_t> shape;
  uint64_t begin = 0;  ///< bytes from the start of the data
  uint64_t end = 0;

  uint64_t bytes() const { return end - begin; }
};

struct SafetensorsHeader {
  std::vector<TensorEntry> tensors;  ///< in order of offset
  std::map<std::string, std::string> metadata;
  uint64_t data_start = 0;  ///< 8 + n
};

/// No header is longer (the format's own limit), so nothing larger is ever allocated.
inline constexpr uint64_t max_safetensors_header = 100'000'000;

/// `file` is the whole file, or of a longer one at least the header; `file_size` the size on disk. Everything is
/// checked that can be checked without reading the data: lengths and offsets with overflow in mind, coverage without
/// holes, overlaps and trailing bytes, JSON strictly (UTF-8, `{` first, only spaces after, no duplicate or unknown key,
/// whole numbers of at least 0). A dtype that this program has never heard of is listed; its byte count is not checked.
/// Throws Error beginning with `where`.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, uint64_t file_size,
                                           const std::string& where);

/// The first 8 + n bytes of a file that holds `tensors`, n a multiple of 8: first puts them into the order of the
/// reference writer (wider elements first, then by name) and sets their offsets. `dtype` is set from `type`.
/// Throws Error on a duplicate or reserved name, on a name that is not UTF-8, and on a shape that overflows.
std::string layout_safetensors(std::vector<TensorEntry>& tensors, const std::map<std::string, std::string>& metadata,
                               const std::string& where);

/// Bytes of `shape` elements of `bits` bits each; none when that overflows or is no whole number of bytes.
std::optional<uint64_t> tensor_bytes(std::span<const int64_t> shape, uint64_t bits);

/// "[16, 32]"
std::string shape_text(std::span<const int64_t> shape);
/// "F32" for f32, ...
std::string_view safetensors_name(DType type);

}  // namespace strand
