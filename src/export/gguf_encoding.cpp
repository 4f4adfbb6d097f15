#include "export/gguf_encoding.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "core/dtype.h"
#include "core/error.h"

namespace strand::gguf {

namespace {
constexpr uint16_t f16_infinity = 0x7c00;
constexpr uint16_t bf16_infinity = 0x7f80;
constexpr uint64_t q8_0_block_bytes = sizeof(uint16_t) + q8_0_block;

/// Converts value by value with `convert`, whose result is not finite exactly when its bits are all of `exponent`.
template <typename Convert>
std::optional<float> encode_halves(std::span<const float> values, uint16_t exponent, std::byte* out,
                                   const Convert& convert) {
  for (const float value : values) {
    const uint16_t bits = convert(value);
    if ((bits & exponent) == exponent) return value;
    std::memcpy(out, &bits, sizeof(bits));
    out += sizeof(bits);
  }
  return std::nullopt;
}

/// One block. The integers are computed with the scale in f32, before it is rounded to f16, as ggml does it.
std::optional<float> encode_block(std::span<const float> values, std::byte* out) {
  float largest = 0;
  for (const float value : values)
    if (!(std::fabs(value) <= largest)) largest = std::fabs(value);
  const float scale = largest / 127.0F;
  const float inverse = scale < 0x1p-126F ? 0.0F : 1.0F / scale;  // of a subnormal it could be infinite
  const uint16_t stored = to_f16(scale);
  if ((stored & f16_infinity) == f16_infinity) return largest;
  std::memcpy(out, &stored, sizeof(stored));
  out += sizeof(stored);
  for (const float value : values)
    *out++ = static_cast<std::byte>(static_cast<int8_t>(std::round(value * inverse)));  // halves away from zero
  return std::nullopt;
}

std::optional<float> encode_blocks(std::span<const float> values, std::byte* out) {
  for (size_t begin = 0; begin < values.size(); begin += q8_0_block, out += q8_0_block_bytes)
    if (const auto value = encode_block(values.subspan(begin, q8_0_block), out)) return value;
  return std::nullopt;
}
}  // namespace

std::string to_string(Encoding encoding) {
  switch (encoding) {
    case Encoding::f32:
      return "f32";
    case Encoding::f16:
      return "f16";
    case Encoding::q8_0:
      return "q8_0";
    case Encoding::bf16:
      return "bf16";
  }
  return "?";
}

int64_t block_elements(Encoding encoding) {
  return encoding == Encoding::q8_0 ? q8_0_block : 1;
}

uint64_t encoded_bytes(Encoding encoding, uint64_t elements) {
  if (encoding == Encoding::q8_0) return elements / q8_0_block * q8_0_block_bytes;
  return elements * (encoding == Encoding::f32 ? sizeof(float) : sizeof(uint16_t));
}

uint16_t to_f16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7e00u;        // NaN
  if (magnitude >= 0x477ff000u) return sign | f16_infinity;  // from 65520 on, half a step above the largest
  if (magnitude < 0x38800000u) {                             // below 2^-14: subnormal, in steps of 2^-24
    const float steps = std::bit_cast<float>(magnitude) * 0x1p24F;
    return sign | static_cast<uint16_t>(std::nearbyint(steps));  // ties to even, the default rounding of C++
  }
  const uint32_t rebased = magnitude - ((127u - 15u) << 23);  // the exponent of f16
  return sign | static_cast<uint16_t>((rebased + 0xfffu + ((rebased >> 13) & 1u)) >> 13);
}

std::optional<float> encode(Encoding encoding, std::span<const float> values, std::byte* out) {
  switch (encoding) {
    case Encoding::f32:
      std::memcpy(out, values.data(), values.size_bytes());
      return std::nullopt;
    case Encoding::f16:
      return encode_halves(values, f16_infinity, out, to_f16);
    case Encoding::bf16:
      return encode_halves(values, bf16_infinity, out, [](float value) { return bf16(value).bits; });
    case Encoding::q8_0:
      return encode_blocks(values, out);
  }
  fail("elements cannot be encoded as type {}", static_cast<uint32_t>(encoding));
}

}  // namespace strand::gguf
