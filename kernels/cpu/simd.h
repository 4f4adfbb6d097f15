#pragma once
// Sixteen floats at a time: the compiler's vectors of 64 bytes with AVX-512, arrays of smaller vectors elsewhere
// (wide_vector.h), and one source for both. Sums run in one fixed order, so results do not depend on the instruction
// set's width.
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>

#include "core/dtype.h"
#ifndef __AVX512F__
#include "kernels/cpu/wide_vector.h"
#endif

namespace strand::simd {

constexpr int width = 16;
#ifdef __AVX512F__
typedef float vfloat __attribute__((vector_size(64)));
typedef int32_t vint __attribute__((vector_size(64)));
typedef uint32_t vuint __attribute__((vector_size(64)));
typedef uint16_t vhalf __attribute__((vector_size(32)));

/// Lane-wise choice; `mask` lanes are 0 or −1, as comparisons give them.
inline vfloat select(vint mask, vfloat yes, vfloat no) {
  return mask ? yes : no;
}
inline vuint select(vint mask, vuint yes, vuint no) {
  return mask ? yes : no;
}
/// Towards zero.
inline vint to_int(vfloat v) {
  return __builtin_convertvector(v, vint);
}
/// Lanes a0 b0 a1 b1 ... a7 b7, and a8 b8 ... a15 b15.
inline void interleave(vfloat a, vfloat b, vfloat& low, vfloat& high) {
  low = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  high = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#else
using vfloat = Wide<float>;
using vint = Wide<int32_t>;
using vuint = Wide<uint32_t>;
#endif

/// The same bits as another type of vector.
template <typename To, typename From>
To bits_as(const From& v) {
#ifdef __AVX512F__
  return reinterpret_cast<To>(v);
#else
  To r;
  for (int i = 0; i < To::parts; ++i) r.part[i] = reinterpret_cast<decltype(r.part[i] + r.part[i])>(v.part[i]);
  return r;
#endif
}

#ifdef __AVX512F__
inline vfloat splat(float x) {
  return vfloat{} + x;
}
inline vfloat load(const float* p) {
  vfloat v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, const vfloat& v) {
  std::memcpy(p, &v, sizeof v);
}
#else
// Part by part: what is copied as a whole is kept in memory.
inline vfloat splat(float x) {
  return by_parts<float>([&](int) { return Part<float>::type{} + x; });
}
inline vfloat load(const float* p) {
  return by_parts<float>([&](int i) {
    Part<float>::type part;
    std::memcpy(&part, p + i * (part_bytes / 4), sizeof part);
    return part;
  });
}
inline void store(float* p, const vfloat& v) {
  for (int i = 0; i < vfloat::parts; ++i) {
    const Part<float>::type part = v.part[i];
    std::memcpy(p + i * (part_bytes / 4), &part, sizeof part);
  }
}
#endif

// 16 bits to 32 and back. GCC 12 makes five instructions of the portable conversion where AVX-512 has one,
// and warns of its own unmasked intrinsics.
#ifdef __AVX512F__
inline vuint widen(vhalf h) {
  return reinterpret_cast<vuint>(_mm512_maskz_cvtepu16_epi32(0xffff, reinterpret_cast<__m256i>(h)));
}
inline vhalf narrow(vuint u) {
  return reinterpret_cast<vhalf>(_mm512_maskz_cvtepi32_epi16(0xffff, reinterpret_cast<__m512i>(u)));
}
#endif

/// The bits of v rounded to nearest even bf16, in the upper halves; the lower halves are undefined. NaN stays NaN.
inline vuint bf16_bits(vfloat v) {
  const vuint u = bits_as<vuint>(v);
  const vuint rounded = u + 0x7fffu + ((u >> 16) & 1u);
  return select(v == v, rounded, u | 0x400000u);
}

#ifdef __AVX512F__
inline vfloat load(const bf16* p) {
  vhalf h;
  std::memcpy(&h, p, sizeof h);
  return bits_as<vfloat>(widen(h) << 16);
}
inline void store(bf16* p, const vfloat& v) {
  const vhalf h = narrow(bf16_bits(v) >> 16);
  std::memcpy(static_cast<void*>(p), &h, sizeof h);
}
#else
inline vfloat load(const bf16* p) {
  return by_parts<float>([&](int i) {
    half_part half;
    std::memcpy(&half, p + i * (part_bytes / 4), sizeof half);
    return reinterpret_cast<Part<float>::type>(__builtin_convertvector(half, Part<uint32_t>::type) << 16);
  });
}
inline void store(bf16* p, const vfloat& v) {
  const vuint bits = bf16_bits(v) >> 16;
  for (int i = 0; i < vuint::parts; ++i) {
    const half_part half = __builtin_convertvector(bits.part[i], half_part);
    std::memcpy(static_cast<void*>(p + i * (part_bytes / 4)), &half, sizeof half);
  }
}
#endif

/// The first n < 16 elements; the others read as `fill` and are not written.
template <typename T>
vfloat load_partial(const T* p, int64_t n, float fill = 0.0f) {
#ifdef __AVX512F__
  vfloat v = splat(fill);
  for (int64_t i = 0; i < n; ++i) v[i] = static_cast<float>(p[i]);
  return v;
#else
  float lanes[width];
  for (int i = 0; i < width; ++i) lanes[i] = i < n ? static_cast<float>(p[i]) : fill;
  return load(lanes);
#endif
}
template <typename T>
void store_partial(T* p, vfloat v, int64_t n) {
#ifdef __AVX512F__
  for (int64_t i = 0; i < n; ++i) p[i] = static_cast<T>(v[i]);
#else
  float lanes[width];
  store(lanes, v);
  for (int64_t i = 0; i < n; ++i) p[i] = static_cast<T>(lanes[i]);
#endif
}

/// A whole vector or, at the end of a row, its first n elements.
template <typename T>
vfloat load_up_to(const T* p, int64_t n) {
  return n >= width ? load(p) : load_partial(p, n);
}
template <typename T>
void store_up_to(T* p, vfloat v, int64_t n) {
  n >= width ? store(p, v) : store_partial(p, v, n);
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
/// Largest of the lanes. A NaN may be passed over.
inline float maximum(vfloat v) {
  float lanes[width];
  std::memcpy(lanes, &v, sizeof v);
  for (int half = width / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] = lanes[i] > lanes[i + half] ? lanes[i] : lanes[i + half];
  }
  return lanes[0];
}

/// e^r for the rest r = x − n ln 2 of an integer n, |r| ≤ ln 2 / 2: a polynomial of degree 6 in r.
inline vfloat exp_of_rest(vfloat x, vfloat n) {
  vfloat r = x - n * 0.693145752f;
  r = r - n * 1.42860677e-6f;
  vfloat p = splat(1.38888889e-3f);
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p;
}

/// e^x = 2^n e^r with x = n ln 2 + r, relative error below 2 ulp. Results below 2^-126 flush to 0, above the largest
/// float they are infinity, and NaN stays NaN.
inline vfloat exp(vfloat x) {
  const vfloat clamped = max(min(x, splat(88.72284f)), splat(-87.33655f));
  const vfloat shifter = splat(12582912.0f);  // 1.5 · 2^23: adding it rounds to an integer
  const vfloat t = clamped * 1.44269504f + shifter;
  const vfloat n = t - shifter;
  const vfloat p = exp_of_rest(clamped, n);
  // 2^n in two factors, so that n = 128 does not overflow the exponent field.
  const vint k = to_int(n);
  const vint half = k >> 1;
  const vfloat scale_low = bits_as<vfloat>((half + 127) << 23);
  const vfloat scale_high = bits_as<vfloat>((k - half + 127) << 23);
  vfloat y = p * scale_low * scale_high;
  y = select(x < -87.33655f, splat(0.0f), y);
  y = select(x > 88.72284f, splat(__builtin_inff()), y);
  return select(x == x, y, x);
}

/// 2^x for x ≤ 0 (and harmlessly a little above), relative error below 2 ulp; below 2^-125 it is 0, NaN stays NaN. The
/// exponential of softmax once the maximum is subtracted, at half the cost of exp. Polynomial: Cephes exp2f.
inline vfloat exp2_nonpositive(vfloat x) {
  const vfloat clamped = select(x < -125.0f, splat(-125.0f), x);
  const vfloat shifter = splat(12582912.0f + 127.0f);  // 1.5 · 2^23 + the exponent's bias: t ends in the bits of 2^n
  const vfloat t = clamped + shifter;
  const vfloat r = clamped - (t - shifter);
  vfloat p = splat(1.535336188319500e-4f);
  p = p * r + 1.339887440266574e-3f;
  p = p * r + 9.618437357674640e-3f;
  p = p * r + 5.550332471162809e-2f;
  p = p * r + 2.402264791363012e-1f;
  p = p * r + 6.931472028550421e-1f;
  p = p * r + 1.0f;
  const vfloat y = p * bits_as<vfloat>(bits_as<vint>(t) << 23);
  return select(x < -125.0f, vfloat{}, y);
}

/// ln x for x from 2^-126 on, relative error below 2 ulp: x = m 2^k with m from √½ to √2, and Cephes' polynomial in m
/// − 1. Below, down to 0, it is a number near −88 (so that x ln x is 0 at 0); undefined for negative x.
inline vfloat log(vfloat x) {
  const vint bits = bits_as<vint>(x);
  const vint k = (bits - 0x3F3504F3) >> 23;  // the bits of √½
  const vfloat f = bits_as<vfloat>(bits - (k << 23)) - 1.0f;
  const vfloat n = bits_as<vfloat>(k + 0x4B400000) - 12582912.0f;  // k as a float: the bits of 1.5 · 2^23, plus k
  vfloat p = splat(7.0376836292e-2f);
  p = p * f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const vfloat square = f * f;
  const vfloat y = f * square * p - n * 2.12194440e-4f - 0.5f * square;
  return f + y + n * 0.693359375f;
}

/// Transposes a 16 × 16 block in place: four rounds of interleaving row i with row i + 8.
inline void transpose(vfloat (&rows)[width]) {
  vfloat other[width];
  for (int round = 0; round < 4; ++round) {
    for (int i = 0; i < 8; ++i) {
      interleave(rows[i], rows[i + 8], other[2 * i], other[2 * i + 1]);
    }
    for (int i = 0; i < width; ++i) rows[i] = other[i];
  }
}

/// 1 / (1 + e^-x) from e^-|x| ≤ 1, which spares exp's care for large results. Relative error below 3 ulp; the lower
/// tail below 2^-126 flushes to 0, NaN stays NaN.
inline vfloat sigmoid(vfloat x) {
  const vfloat negative = bits_as<vfloat>(bits_as<vint>(x) | INT32_MIN);
  const vfloat clamped = select(negative < -88.0f, splat(-88.0f), negative);
  const vfloat shifter = splat(12582912.0f + 127.0f);  // as in exp2_nonpositive; −88 gives exponent bits 0
  const vfloat t = clamped * 1.44269504f + shifter;
  const vfloat n = t - shifter;
  const vfloat p = exp_of_rest(clamped, n);
  const vfloat e = p * bits_as<vfloat>(bits_as<vint>(t) << 23);
  return select(x < 0.0f, e, splat(1.0f)) / (1.0f + e);
}

// One body for the full vectors of a row and for its tail: the second argument of the body says which, and picks the
// load and store that fit.
struct AllLanes {};
struct SomeLanes {
  int64_t count;
};
template <typename T>
vfloat load(const T* p, AllLanes, float = 0.0f) {
  return load(p);
}
template <typename T>
vfloat load(const T* p, SomeLanes lanes, float fill = 0.0f) {
  return load_partial(p, lanes.count, fill);
}
template <typename T>
void store(T* p, vfloat v, AllLanes) {
  store(p, v);
}
template <typename T>
void store(T* p, vfloat v, SomeLanes lanes) {
  store_partial(p, v, lanes.count);
}
template <typename Body>
inline void for_lanes(int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + width <= n; i += width) body(i, AllLanes{});
  if (i < n) body(i, SomeLanes{n - i});
}

/// v as it will read back after a store to T.
template <typename T>
vfloat round_to(vfloat v);
template <>
inline vfloat round_to<float>(vfloat v) {
  return v;
}
template <>
inline vfloat round_to<bf16>(vfloat v) {
  return bits_as<vfloat>(bf16_bits(v) & 0xffff0000u);
}

/// ⟨a, b⟩ in four interleaved partial sums.
template <typename A, typename B>
float dot(const A* a, const B* b, int64_t n) {
  vfloat s0{}, s1{}, s2{}, s3{};
  int64_t i = 0;
  for (; i + 4 * width <= n; i += 4 * width) {
    s0 += load(a + i) * load(b + i);
    s1 += load(a + i + width) * load(b + i + width);
    s2 += load(a + i + 2 * width) * load(b + i + 2 * width);
    s3 += load(a + i + 3 * width) * load(b + i + 3 * width);
  }
  for_lanes(n - i, [&](int64_t j, auto lanes) { s0 += load(a + i + j, lanes) * load(b + i + j, lanes); });
  return sum((s0 + s1) + (s2 + s3));
}

}  // namespace strand::simd
