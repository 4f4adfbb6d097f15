#pragma once
// RMSNorm of one row, forward and backward; the rows are tokens (norm.cpp) or heads of a token (split_heads.cpp).
// Results go to `sink(column, count, vector)`: the first `count` lanes are columns column, column + 1, ...
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/cpu/simd.h"

namespace strand {

/// rsqrt(mean(x²) + eps) from the sum of squares of n values
inline float rms_rstd(float sum_of_squares, int64_t n, double eps) {
  return 1.0f / std::sqrt(sum_of_squares / static_cast<float>(n) + static_cast<float>(eps));
}

inline float sum_of_squares(const float* x, int64_t n) {
  simd::vfloat squares = {};
  for (int64_t i = 0; i < n; i += simd::width) {
    const simd::vfloat v = simd::load_up_to(x + i, n - i);
    squares += v * v;
  }
  return simd::sum(squares);
}

/// y = x · rstd · w
template <typename Sink>
void rms_norm_row(const float* x, const float* weight, float rstd, int64_t n, const Sink& sink) {
  for (int64_t i = 0; i < n; i += simd::width) {
    const int64_t count = std::min<int64_t>(simd::width, n - i);
    sink(i, count, simd::load_up_to(x + i, count) * rstd * simd::load_up_to(weight + i, count));
  }
}

/// With a = dy·w:  dx = rstd (a − x · rstd² mean(a x)),  dweight += dy · x · rstd. The sink may overwrite dy.
template <typename Sink>
void rms_norm_backward_row(const float* dy, const float* x, const float* weight, float rstd, int64_t n, float* dweight,
                           const Sink& sink) {
  using namespace simd;
  vfloat dots = {};
  for (int64_t i = 0; i < n; i += width) {
    dots += load_up_to(dy + i, n - i) * load_up_to(weight + i, n - i) * load_up_to(x + i, n - i);
  }
  const float projection = rstd * rstd * sum(dots) / static_cast<float>(n);
  for (int64_t i = 0; i < n; i += width) {
    const int64_t count = std::min<int64_t>(width, n - i);
    const vfloat dy_i = load_up_to(dy + i, count), x_i = load_up_to(x + i, count);
    store_up_to(dweight + i, load_up_to(dweight + i, count) + dy_i * x_i * rstd, count);
    sink(i, count, rstd * (dy_i * load_up_to(weight + i, count) - x_i * projection));
  }
}

}  // namespace strand
