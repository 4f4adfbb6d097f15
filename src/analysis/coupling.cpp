#include "analysis/coupling.h"

#include <algorithm>
#include <functional>

#include "analysis/assignment.h"

namespace strand {

namespace {
double independent_kappa(std::vector<int64_t> lower, std::vector<int64_t> upper, double tokens) {
  std::sort(lower.begin(), lower.end(), std::greater<>());
  std::sort(upper.begin(), upper.end(), std::greater<>());
  double sum = 0;
  for (size_t i = 0; i < std::min(lower.size(), upper.size()); ++i)
    sum += static_cast<double>(lower[i]) / tokens * (static_cast<double>(upper[i]) / tokens);
  return sum;
}

/// `peak` and `lift`.
void add_largest_entries(const Coupling& c, const std::vector<int64_t>& upper_counts, double tokens, double top_k,
                         CouplingScalars& s) {
  int64_t busy = 0;
  for (int64_t e = 0; e < c.joint.rows; ++e) {
    if (c.lower_counts[static_cast<size_t>(e)] == 0) continue;
    ++busy;
    double peak = 0, lift = 0;
    for (int64_t v = 0; v < c.joint.columns; ++v) {
      if (upper_counts[static_cast<size_t>(v)] == 0) continue;
      const double q = c.conditional(e, v);
      peak = std::max(peak, q / top_k);
      lift = std::max(lift, q * tokens / static_cast<double>(upper_counts[static_cast<size_t>(v)]));
    }
    s.peak += peak;
    s.lift += lift;
  }
  s.peak /= static_cast<double>(busy);
  s.lift /= static_cast<double>(busy);
}
}  // namespace

double normalized_information(const CountMatrix& joint) {
  const double least = std::min(entropy(joint.row_sums()), entropy(joint.column_sums()));
  return least > 0 ? mutual_information(joint) / least : 0;
}

double Coupling::conditional(int64_t e, int64_t v) const {
  return static_cast<double>(joint.at(e, v)) / static_cast<double>(lower_counts[static_cast<size_t>(e)]);
}

double kappa(const Selections& lower, const Selections& upper) {
  return best_assignment(top_1_joint_counts(lower, upper)).total / static_cast<double>(lower.tokens());
}

Coupling couple(const Selections& lower, const Selections& upper) {
  const auto tokens = static_cast<double>(lower.tokens());
  Coupling c{.joint = joint_counts(lower, upper), .lower_counts = expert_counts(lower)};
  const CountMatrix first = top_1_joint_counts(lower, upper);
  CouplingScalars& s = c.scalars;
  s.kappa = best_assignment(first).total / tokens;
  s.independent = independent_kappa(first.row_sums(), first.column_sums(), tokens);
  s.excess = s.independent < 1 ? (s.kappa - s.independent) / (1 - s.independent) : 0;
  s.information = normalized_information(first);
  Assignment matched = best_assignment(c.joint);
  s.kappa_top_k = matched.total / (tokens * static_cast<double>(std::min(lower.top_k(), upper.top_k())));
  c.matched = std::move(matched.column_of_row);
  add_largest_entries(c, expert_counts(upper), tokens, static_cast<double>(upper.top_k()), s);
  return c;
}

}  // namespace strand
