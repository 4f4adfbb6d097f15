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

/// The format's own limit: no header has more bytes, so nothing larger is ever allocated.
inline constexpr uint64_t max_safetensors_header = 100'000'000;

/// Reads and checks the header. `file` holds the whole file, or at least its header; `file_size` is the size on disk.
/// Everything is checked that can be checked without reading the data. Lengths and offsets must not overflow; the
/// tensors must cover the data without holes, overlaps and trailing bytes; the JSON must be strict (UTF-8, `{` first,
/// only spaces after the end, no duplicate or unknown key, whole numbers of at least 0). A tensor of a dtype that this
/// program does not know is listed, and its number of bytes is not checked. Throws Error that begins with `where`.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, uint64_t file_size,
                                           const std::string& where);

/// Puts `tensors` into the order of the reference writer (wider elements first, then by name), sets their offsets, and
/// sets `dtype` from `type`. Returns the first 8 + n bytes of a file that holds them; n is a multiple of 8. Throws
/// Error for a duplicate or reserved name, for a name that is not UTF-8, and for a shape that overflows.
std::string layout_safetensors(std::vector<TensorEntry>& tensors, const std::map<std::string, std::string>& metadata,
                               const std::string& where);

/// The number of bytes of a tensor of this shape with `bits` bits an element. None when that overflows or is not a
/// whole number of bytes.
std::optional<uint64_t> tensor_bytes(std::span<const int64_t> shape, uint64_t bits);

/// "[16, 32]"
std::string shape_text(std::span<const int64_t> shape);
/// "F32" for f32, ...
std::string_view safetensors_name(DType type);

}  // namespace strand
