#pragma once
// Reads any range of the elements of a tensor in a file, converted to another type and with its rows in another order.
#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "checkpoint/safetensors_header.h"

namespace strand::hf {

/// The row of the file that becomes row i of the result. Without a function it is row i.
using RowOrder = std::function<int64_t(int64_t)>;
/// The same for elements, where whole rows do not stay together.
using ElementOrder = std::function<int64_t(int64_t)>;

struct ElementSource {
  std::span<const std::byte> bytes;
  std::string dtype;    ///< "F32", "F64", "BF16" or "F16"
  int64_t columns = 1;  ///< elements in a row
  RowOrder row = {};
  ElementOrder element = {};  ///< takes the place of `row` where it is set
};

/// Whether elements of this dtype can be read.
bool is_readable(const std::string& dtype);

/// Writes elements [begin, begin + count) of the result to `out`, as `dtype` (f32 or bf16, rounded to nearest even).
void read_elements(const ElementSource& source, int64_t begin, int64_t count, DType dtype, void* out);

/// Converts f16 to f32, exactly.
float from_f16(uint16_t bits);

}  // namespace strand::hf
