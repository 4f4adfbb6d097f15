#pragma once
// The rotation of pairs (i, i + half) of a vector by the angles of a position, and back.
#include <algorithm>
#include <cstdint>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/simd.h"

namespace strand {

enum class Turn : uint8_t { forward, backward };

/// A vector of `dim` elements from one place to another, its pairs (i, i + half) rotated by `angles`: `half` cosines,
/// then `half` sines. What is behind 2·half elements is copied.
template <Turn turn, typename From, typename To>
void rotate(const From* from, const float* angles, int64_t half, int64_t dim, To* to) {
  using namespace simd;
  for (int64_t i = 0; i < half; i += width) {
    const int64_t n = std::min<int64_t>(width, half - i);
    const vfloat cosine = load_up_to(angles + i, n);
    const vfloat sine = turn == Turn::forward ? load_up_to(angles + half + i, n) : -load_up_to(angles + half + i, n);
    const vfloat a = load_up_to(from + i, n), b = load_up_to(from + half + i, n);
    store_up_to(to + i, a * cosine - b * sine, n);
    store_up_to(to + half + i, b * cosine + a * sine, n);
  }
  convert(from + 2 * half, to + 2 * half, dim - 2 * half);
}

}  // namespace strand
