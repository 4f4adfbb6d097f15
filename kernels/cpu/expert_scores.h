#pragma once
// What the router's operations do to one token's row of E numbers.
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/cpu/simd.h"

namespace strand {

inline float max_of_row(const float* row, int64_t n) {
  constexpr float lowest = -std::numeric_limits<float>::infinity();
  simd::vfloat largest = simd::splat(lowest);
  simd::for_lanes(n, [&](int64_t i, auto lanes) { largest = simd::max(simd::load(row + i, lanes, lowest), largest); });
  return simd::maximum(largest);
}

/// out = e^(row − shift); returns the sum.
inline float exp_of_row(const float* row, float shift, float* out, int64_t n) {
  simd::vfloat total{};
  simd::for_lanes(n, [&](int64_t i, auto lanes) {
    constexpr float lowest = -std::numeric_limits<float>::infinity();  // lanes past the end add e^lowest = 0
    const simd::vfloat e = simd::exp(simd::load(row + i, lanes, lowest) - shift);
    simd::store(out + i, e, lanes);
    total += e;
  });
  return simd::sum(total);
}

inline void scale_row(float* row, float factor, int64_t n) {
  simd::for_lanes(n, [&](int64_t i, auto lanes) { simd::store(row + i, simd::load(row + i, lanes) * factor, lanes); });
}

/// out = 1 / (1 + e^-row); returns the sum.
inline float sigmoid_of_row(const float* row, float* out, int64_t n) {
  simd::for_lanes(
      n, [&](int64_t i, auto lanes) { simd::store(out + i, simd::sigmoid(simd::load(row + i, lanes)), lanes); });
  simd::vfloat total{};
  simd::for_lanes(n, [&](int64_t i, auto lanes) { total += simd::load(out + i, lanes); });
  return simd::sum(total);
}

/// −Σ p ln p; a p of 0 adds 0.
inline float entropy_of_row(const float* probs, int64_t n) {
  simd::vfloat total{};
  simd::for_lanes(n, [&](int64_t i, auto lanes) {
    const simd::vfloat p = simd::load(probs + i, lanes);
    total -= p * simd::log(p);
  });
  return simd::sum(total);
}

/// The indices of the k largest, in descending order; ties go to the lower index. Always k distinct indices, also when
/// scores are NaN.
inline void top_k_of_row(const float* score, int64_t n, int64_t k, int32_t* best) {
  int64_t found = 0;
  for (int64_t e = 0; e < n; ++e) {
    if (found == k && !(score[e] > score[best[k - 1]])) continue;
    int64_t place = found < k ? found++ : k - 1;
    for (; place > 0 && score[e] > score[best[place - 1]]; --place) best[place] = best[place - 1];
    best[place] = static_cast<int32_t>(e);
  }
}

}  // namespace strand
