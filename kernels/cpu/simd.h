#pragma once
// Sixteen floats at a time through the compiler's vector extension: one source for AVX-512, AVX2 and NEON, which GCC
// and clang lower to what the machine has. Sums run in one fixed order, so results do not depend on the instruction
// set's width.
#include <cstdint>
#include <cstring>

#include "core/dtype.h"

namespace strand::simd {

constexpr int width = 16;
typedef float vfloat __attribute__((vector_size(64)));
typedef int32_t vint __attribute__((vector_size(64)));
typedef uint32_t vuint __attribute__((vector_size(64)));
typedef uint16_t vhalf __attribute__((vector_size(32)));

inline vfloat splat(float x) {
  return vfloat{} + x;
}

inline vfloat load(const float* p) {
  vfloat v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline vfloat load(const bf16* p) {
  vhalf h;
  std::memcpy(&h, p, sizeof h);
  return reinterpret_cast<vfloat>(__builtin_convertvector(h, vuint) << 16);
}
inline void store(float* p, vfloat v) {
  std::memcpy(p, &v, sizeof v);
}
inline void store(bf16* p, vfloat v) {
  const vuint u = reinterpret_cast<vuint>(v);
  const vuint rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const vuint quiet = (u >> 16) | 0x40u;
  const vuint nan = reinterpret_cast<vuint>((u & 0x7fffffffu) > 0x7f800000u);
  const vhalf h = __builtin_convertvector((nan & quiet) | (~nan & rounded), vhalf);
  std::memcpy(p, &h, sizeof h);
}

/// The first n < 16 elements; the others read as `fill` and are not written.
template <typename T>
vfloat load_partial(const T* p, int64_t n, float fill = 0.0f) {
  vfloat v = splat(fill);
  for (int64_t i = 0; i < n; ++i) v[i] = static_cast<float>(p[i]);
  return v;
}
template <typename T>
void store_partial(T* p, vfloat v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = static_cast<T>(v[i]);
}

/// Lane-wise choice; `mask` lanes are 0 or −1, as comparisons give them.
inline vfloat select(vint mask, vfloat yes, vfloat no) {
  return reinterpret_cast<vfloat>((mask & reinterpret_cast<vint>(yes)) | (~mask & reinterpret_cast<vint>(no)));
}
inline vfloat max(vfloat a, vfloat b) {
  return select(a > b, a, b);
}
inline vfloat min(vfloat a, vfloat b) {
  return select(a < b, a, b);
}

/// Sum of the lanes as a fixed tree: 8 + 8, 4 + 4, 2 + 2, 1 + 1.
inline float sum(vfloat v) {
  typedef float v8 __attribute__((vector_size(32)));
  typedef float v4 __attribute__((vector_size(16)));
  v8 a, b;
  std::memcpy(&a, &v, 32);
  std::memcpy(&b, reinterpret_cast<const char*>(&v) + 32, 32);
  a += b;
  v4 c, d;
  std::memcpy(&c, &a, 16);
  std::memcpy(&d, reinterpret_cast<const char*>(&a) + 16, 16);
  c += d;
  return (c[0] + c[2]) + (c[1] + c[3]);
}
inline float maximum(vfloat v) {
  float m = v[0];
  for (int i = 1; i < width; ++i) m = v[i] > m ? v[i] : m;
  return m;
}

/// e^x, relative error below 2 ulp: x = n ln 2 + r, |r| ≤ ln 2 / 2, and a polynomial of degree 6 in r. Results below
/// 2^-126 flush to 0, above the largest float they are infinity, and NaN stays NaN.
inline vfloat exp(vfloat x) {
  const vfloat clamped = max(min(x, splat(88.72284f)), splat(-87.33655f));
  const vfloat shifter = splat(12582912.0f);  // 1.5 · 2^23: adding it rounds to an integer
  const vfloat t = clamped * 1.44269504f + shifter;
  const vfloat n = t - shifter;
  vfloat r = clamped - n * 0.693145752f;
  r = r - n * 1.42860677e-6f;
  vfloat p = splat(1.38888889e-3f);
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // 2^n in two factors, so that n = 128 does not overflow the exponent field.
  const vint k = __builtin_convertvector(n, vint);
  const vint half = k >> 1;
  const vfloat scale_low = reinterpret_cast<vfloat>((half + 127) << 23);
  const vfloat scale_high = reinterpret_cast<vfloat>((k - half + 127) << 23);
  vfloat y = p * scale_low * scale_high;
  y = select(x < -87.33655f, splat(0.0f), y);
  y = select(x > 88.72284f, splat(__builtin_inff()), y);
  return select(x == x, y, x);
}

/// 1 / (1 + e^-x)
inline vfloat sigmoid(vfloat x) {
  return 1.0f / (1.0f + exp(-x));
}

}  // namespace strand::simd
