#pragma once
// The types in which a GGUF file holds the elements of a tensor, and the conversion of rows to them. The results are
// those of the Python package gguf, bit for bit.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace strand::gguf {

/// The numbers are those of ggml (enum ggml_type), which the file holds.
enum class Encoding : uint32_t {
  f32 = 0,
  f16 = 1,   ///< IEEE binary16, rounded to nearest even
  q8_0 = 8,  ///< blocks of 32 elements: the scale d in f16, and 32 integers of 8 bits; an element is d · integer
  bf16 = 30  ///< rounded to nearest even
};

inline constexpr int64_t q8_0_block = 32;  ///< elements

/// "f32", "f16", "bf16", "q8_0"
std::string to_string(Encoding encoding);

/// Elements that are stored together; a row must be a multiple of them.
int64_t block_elements(Encoding encoding);

/// The bytes of so many elements, a multiple of block_elements().
uint64_t encoded_bytes(Encoding encoding, uint64_t elements);

/// Writes the elements to `out`, which holds encoded_bytes(encoding, values.size()). Returns the first value that is
/// too large for the type, if there is one; what is written is of no use then. In q8_0 such a value is one with which
/// the scale of its block leaves the range of f16.
std::optional<float> encode(Encoding encoding, std::span<const float> values, std::byte* out);

/// The nearest f16, ties to even. Values from 65520 on become infinity.
uint16_t to_f16(float value);

}  // namespace strand::gguf
