#include "analysis/sharpness.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

namespace strand {

namespace {
constexpr double confident_from = 0.9;

double plogp(double p) {
  return p > 0 ? p * std::log(p) : 0;
}

double entropy_of(std::span<const double> p) {
  double sum = 0;
  for (const double x : p) sum -= plogp(x);
  return sum;
}

double log_sum_exp(std::span<const double> q) {
  const double largest = *std::max_element(q.begin(), q.end());
  double sum = 0;
  for (const double x : q) sum += std::exp(x - largest);
  return largest + std::log(sum);
}

/// The largest entropy of a distribution over `experts` experts whose largest probability is 1 − delta.
double entropy_bound(double delta, double experts) {
  const double binary = -plogp(delta) - plogp(1 - delta);
  return binary + (experts > 1 ? delta * std::log(experts - 1) : 0);
}
}  // namespace

SharpnessSum::SharpnessSum(int64_t experts, int64_t top_k)
    : top_k_(top_k), probability_(static_cast<size_t>(experts)), sorted_(static_cast<size_t>(experts)) {}

void SharpnessSum::add(std::span<const double> p, std::span<const double> q) {
  const auto experts = static_cast<double>(p.size());
  const auto k = static_cast<size_t>(top_k_);
  ++tokens_;
  for (size_t e = 0; e < p.size(); ++e) probability_[e] += p[e];
  sorted_.assign(p.begin(), p.end());
  const size_t wanted = std::min(k + 1, sorted_.size());
  std::partial_sort(sorted_.begin(), sorted_.begin() + static_cast<std::ptrdiff_t>(wanted), sorted_.end(),
                    std::greater<>());
  const double h = entropy_of(p);
  sum_.token_entropy += h;
  sum_.effective_experts += std::exp(h);
  sum_.top_1 += sorted_[0];
  sum_.top_k += std::accumulate(sorted_.begin(), sorted_.begin() + static_cast<std::ptrdiff_t>(k), 0.0);
  if (k < sorted_.size()) sum_.gap += sorted_[k - 1] - sorted_[k];
  sum_.confident += sorted_[0] >= confident_from;
  sum_.bound += entropy_bound(std::max(0.0, 1 - sorted_[0]), experts);
  sum_.logsumexp += log_sum_exp(q);
}

Sharpness SharpnessSum::mean() const {
  const auto tokens = static_cast<double>(tokens_);
  const double most = std::log(static_cast<double>(probability_.size()));  // ln E
  const double unit = most > 0 ? most : 1;
  std::vector<double> p = probability_;
  for (double& x : p) x /= tokens;
  const double of_load = entropy_of(p);
  Sharpness s = sum_;
  for (double* x :
       {&s.token_entropy, &s.effective_experts, &s.top_1, &s.top_k, &s.gap, &s.confident, &s.bound, &s.logsumexp})
    *x /= tokens;
  s.information = of_load - s.token_entropy;
  s.load_entropy = of_load / unit;
  s.token_entropy /= unit;
  s.bound /= unit;
  return s;
}

Sharpness uniform_sharpness(int64_t experts, int64_t top_k) {
  const auto e = static_cast<double>(experts);
  return {.token_entropy = 1,
          .load_entropy = 1,
          .effective_experts = e,
          .top_1 = 1 / e,
          .top_k = static_cast<double>(top_k) / e,
          .confident = 1 / e >= confident_from ? 1.0 : 0.0,
          .bound = 1};
}

}  // namespace strand
