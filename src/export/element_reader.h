#pragma once
// Elements of a tensor in a file, converted and with their rows in another order, any stretch at a time.
#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "checkpoint/safetensors_header.h"

namespace strand::hf {

/// Which row of the file makes row i of the result; empty = the same one.
using RowOrder = std::function<int64_t(int64_t)>;

struct ElementSource {
  std::span<const std::byte> bytes;
  std::string dtype;    ///< "F32", "F64", "BF16" or "F16"
  int64_t columns = 1;  ///< elements in a row
  RowOrder row = {};
};

/// Whether ElementSource can have this dtype.
bool is_readable(const std::string& dtype);

/// Writes elements [begin, begin + count) of the result to `out`, as `dtype` (f32 or bf16, rounded to nearest even).
void read_elements(const ElementSource& source, int64_t begin, int64_t count, DType dtype, void* out);

/// f16 to f32, exact.
float from_f16(uint16_t bits);

}  // namespace strand::hf
