#include "export/element_reader.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/error.h"

namespace strand::hf {

float from_f16(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu, fraction = bits & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));  // infinity, NaN
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;  // subnormal, or zero
  return sign != 0 ? -magnitude : magnitude;
}

namespace {
template <typename From>
From load(const std::byte* at) {
  From value;
  std::memcpy(&value, at, sizeof(value));  // tensors of other programs may be unaligned
  return value;
}

/// Calls body(type) with the element type and its conversion to float.
template <typename Body>
void with_type(const std::string& dtype, const Body& body) {
  if (dtype == "F32") return body(size_t{4}, [](const std::byte* at) { return load<float>(at); });
  if (dtype == "F64") return body(size_t{8}, [](const std::byte* at) { return static_cast<float>(load<double>(at)); });
  if (dtype == "BF16") return body(size_t{2}, [](const std::byte* at) { return static_cast<float>(load<bf16>(at)); });
  if (dtype == "F16") return body(size_t{2}, [](const std::byte* at) { return from_f16(load<uint16_t>(at)); });
  fail("elements of type {} cannot be read", dtype);
}

template <typename To>
void convert(const ElementSource& source, int64_t begin, int64_t count, To* out) {
  with_type(source.dtype, [&](size_t size, const auto& value) {
    for (int64_t i = 0; source.element && i < count; ++i)
      out[i] = static_cast<To>(value(source.bytes.data() + static_cast<size_t>(source.element(begin + i)) * size));
    if (source.element) return;
    for (int64_t done = 0; done < count;) {  // row by row
      const int64_t row = (begin + done) / source.columns, column = (begin + done) % source.columns;
      const int64_t stretch = std::min(count - done, source.columns - column);
      const int64_t from = (source.row ? source.row(row) : row) * source.columns + column;
      const std::byte* at = source.bytes.data() + static_cast<size_t>(from) * size;
      for (int64_t i = 0; i < stretch; ++i, at += size) out[done + i] = static_cast<To>(value(at));
      done += stretch;
    }
  });
}
}  // namespace

bool is_readable(const std::string& dtype) {
  return dtype == "F32" || dtype == "F64" || dtype == "BF16" || dtype == "F16";
}

void read_elements(const ElementSource& source, int64_t begin, int64_t count, DType dtype, void* out) {
  if (dtype == DType::f32) return convert(source, begin, count, static_cast<float*>(out));
  require(dtype == DType::bf16, "elements cannot be written as {}", to_string(dtype));
  convert(source, begin, count, static_cast<bf16*>(out));
}

}  // namespace strand::hf
