#pragma once
// Rows between f32 and bf16, rounded to nearest even.
#include "kernels/cpu/simd.h"

namespace strand {

/// to[i] = from[i]; in place is allowed when the types agree.
template <typename From, typename To>
void convert(const From* from, To* to, int64_t count) {
  simd::for_lanes(count, [&](int64_t i, auto lanes) { simd::store(to + i, simd::load(from + i, lanes), lanes); });
}

}  // namespace strand
