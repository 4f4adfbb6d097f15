#pragma once
// The specialization term SP of one token from its Gram matrix; Hu et al., arXiv 2602.14159, Eq. 4.
#include <cmath>
#include <vector>

#include "kernels/ops/smallest_square.h"
#include "kernels/reference/view.h"

namespace strand::reference {

/// cos(z_i, z_j) of one token
inline double cosine(const View<double, 3>& gram, int64_t t, int64_t i, int64_t j) {
  const double ii = gram(t, i, i), jj = gram(t, j, j);
  if (ii < smallest_square || jj < smallest_square) return 0;
  return gram(t, i, j) / (std::sqrt(ii) * std::sqrt(jj));
}

/// ∂SP_t/∂z_ti at f, times a quarter: Σ_{j≠i} c (ẑ_j − c ẑ_i) / ‖z_i‖. `z` are the K vectors of token t.
inline double sp_gradient(const View<double, 3>& gram, const std::vector<std::vector<double>>& z, int64_t t, size_t i,
                          size_t f) {
  const auto norm = [&](size_t k) { return std::sqrt(gram(t, k, k)); };
  double sum = 0;
  for (size_t j = 0; j < z.size(); ++j) {
    const double c = j == i ? 0 : cosine(gram, t, static_cast<int64_t>(i), static_cast<int64_t>(j));
    if (c != 0) sum += c * (z[j][f] / norm(j) - c * z[i][f] / norm(i)) / norm(i);
  }
  return sum;
}

}  // namespace strand::reference
