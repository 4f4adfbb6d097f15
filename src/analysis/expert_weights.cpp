#include "analysis/expert_weights.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/staging.h"

namespace strand {

namespace {
constexpr int64_t numbers_at_a_time = int64_t{1} << 22;  ///< on the host, of all experts together

/// gram [E, E] += the inner products of the experts' parts of `weights` [E, rows, columns].
void add_gram(Ops& ops, const Tensor& weights, std::vector<double>& gram) {
  const int64_t experts = weights.dim(0), rows = weights.dim(1), columns = weights.dim(2);
  const int64_t rows_at_a_time = std::clamp<int64_t>(numbers_at_a_time / (experts * columns), 1, rows);
  std::vector<std::vector<double>> part(static_cast<size_t>(experts));
  for (int64_t begin = 0; begin < rows; begin += rows_at_a_time) {
    const int64_t end = std::min(begin + rows_at_a_time, rows);
    for (int64_t e = 0; e < experts; ++e)
      part[static_cast<size_t>(e)] = download_values(ops, weights[e].rows(begin, end));
#pragma omp parallel for schedule(dynamic)
    for (int64_t e = 0; e < experts; ++e) {
      const std::vector<double>& one = part[static_cast<size_t>(e)];
      for (int64_t v = e; v < experts; ++v) {
        const std::vector<double>& other = part[static_cast<size_t>(v)];
        gram[static_cast<size_t>(e * experts + v)] += std::inner_product(one.begin(), one.end(), other.begin(), 0.0);
      }
    }
  }
}
}  // namespace

WeightCosines weight_cosines(Ops& ops, const Tensor& gate_up, const Tensor& down) {
  const int64_t experts = gate_up.dim(0);
  std::vector<double> gram(static_cast<size_t>(experts * experts));
  add_gram(ops, gate_up, gram);
  add_gram(ops, down, gram);
  const auto product = [&](int64_t e, int64_t v) { return gram[static_cast<size_t>(e * experts + v)]; };

  WeightCosines c{.pairs = std::vector<double>(gram.size())};
  for (int64_t e = 0; e < experts; ++e) {
    for (int64_t v = e; v < experts; ++v) {
      const double norms = std::sqrt(product(e, e) * product(v, v));
      const double cosine = norms > 0 ? product(e, v) / norms : 0;
      c.pairs[static_cast<size_t>(e * experts + v)] = c.pairs[static_cast<size_t>(v * experts + e)] = cosine;
      if (e == v) continue;
      c.mean += cosine;
      c.mean_absolute += std::abs(cosine);
      c.max_absolute = std::max(c.max_absolute, std::abs(cosine));
    }
  }
  if (experts == 1) return c;
  const auto count = static_cast<double>(experts * (experts - 1) / 2);
  c.mean /= count;
  c.mean_absolute /= count;
  return c;
}

}  // namespace strand
