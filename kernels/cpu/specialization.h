#pragma once
// The specialization term SP of one token, and its gradient as a product of small matrices, from the token's Gram
// matrix [K, K].
#include <cstdint>
#include <type_traits>

#include "kernels/ops/smallest_square.h"

namespace strand {

/// Σ_{i≠j} cos²(z_i, z_j)
inline double sum_of_squared_cosines(const float* gram, int64_t top_k) {
  double total = 0;
  for (int64_t i = 0; i < top_k; ++i) {
    const double ii = gram[i * top_k + i];
    if (ii < smallest_square) continue;
    for (int64_t j = 0; j < i; ++j) {
      const double jj = gram[j * top_k + j], ij = gram[i * top_k + j];
      if (jj >= smallest_square) total += 2 * ij * ij / (ii * jj);
    }
  }
  return total;
}

/// 4 sp_scale c (ẑ_j − c ẑ_i) / ‖z_i‖ = pull_ij z_j + (part of pull_ii) z_i, so that row i of the token gets
/// Σ_j pull_ij z_j.
inline void specialization_pull(const float* gram, int64_t top_k, double sp_scale, float* pull) {
  for (int64_t i = 0; i < top_k; ++i) {
    const double ii = gram[i * top_k + i];
    double self = 0;
    for (int64_t j = 0; j < top_k; ++j) {
      const double jj = gram[j * top_k + j], ij = gram[i * top_k + j];
      const bool counts = i != j && ii >= smallest_square && jj >= smallest_square;
      const double partner = counts ? 4 * sp_scale * ij / (ii * jj) : 0;
      pull[i * top_k + j] = static_cast<float>(partner);
      self -= counts ? partner * ij / ii : 0;
    }
    pull[i * top_k + i] = static_cast<float>(self);
  }
}

/// body(top_k), a constant where it is small and common, so that sums over a token's rows unroll.
template <typename Body>
void with_top_k(int64_t top_k, const Body& body) {
  switch (top_k) {
    case 2:
      return body(std::integral_constant<int64_t, 2>{});
    case 4:
      return body(std::integral_constant<int64_t, 4>{});
    case 6:
      return body(std::integral_constant<int64_t, 6>{});
    case 8:
      return body(std::integral_constant<int64_t, 8>{});
    default:
      return body(top_k);
  }
}

}  // namespace strand
