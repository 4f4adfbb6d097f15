#include "analysis/count_matrix.h"

#include <cmath>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "core/random.h"

namespace strand {

int64_t CountMatrix::total() const {
  return std::accumulate(values.begin(), values.end(), int64_t{0});
}

std::vector<int64_t> CountMatrix::row_sums() const {
  std::vector<int64_t> sums(static_cast<size_t>(rows));
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) sums[static_cast<size_t>(i)] += at(i, j);
  return sums;
}

std::vector<int64_t> CountMatrix::column_sums() const {
  std::vector<int64_t> sums(static_cast<size_t>(columns));
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) sums[static_cast<size_t>(j)] += at(i, j);
  return sums;
}

std::vector<int64_t> expert_counts(const Selections& selections) {
  std::vector<int64_t> counts(static_cast<size_t>(selections.experts()));
  for (int64_t t = 0; t < selections.tokens(); ++t)
    for (const uint16_t e : selections[t]) ++counts[e];
  return counts;
}

namespace {
void require_same_tokens(const Selections& lower, const Selections& upper) {
  require(lower.tokens() == upper.tokens(), "routings of {} and of {} tokens are compared", lower.tokens(),
          upper.tokens());
}
}  // namespace

CountMatrix joint_counts(const Selections& lower, const Selections& upper) {
  require_same_tokens(lower, upper);
  CountMatrix joint(lower.experts(), upper.experts());
  for (int64_t t = 0; t < lower.tokens(); ++t)
    for (const uint16_t e : lower[t])
      for (const uint16_t v : upper[t]) ++joint.at(e, v);
  return joint;
}

CountMatrix top_1_joint_counts(const Selections& lower, const Selections& upper) {
  require_same_tokens(lower, upper);
  CountMatrix joint(lower.experts(), upper.experts());
  for (int64_t t = 0; t < lower.tokens(); ++t) ++joint.at(lower.top_1(t), upper.top_1(t));
  return joint;
}

CountMatrix pair_counts(const Selections& selections) {
  return joint_counts(selections, selections);
}

double entropy(const std::vector<int64_t>& counts) {
  const auto total = static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
  double sum = 0;
  for (const int64_t n : counts) {
    if (n == 0) continue;
    const double p = static_cast<double>(n) / total;
    sum -= p * std::log(p);
  }
  return sum;
}

double mutual_information(const CountMatrix& joint) {
  const auto total = static_cast<double>(joint.total());
  const std::vector<int64_t> rows = joint.row_sums(), columns = joint.column_sums();
  double sum = 0;
  for (int64_t i = 0; i < joint.rows; ++i) {
    for (int64_t j = 0; j < joint.columns; ++j) {
      const auto n = static_cast<double>(joint.at(i, j));
      if (n == 0) continue;
      const auto independent =
          static_cast<double>(rows[static_cast<size_t>(i)]) * static_cast<double>(columns[static_cast<size_t>(j)]);
      sum += n / total * std::log(n * total / independent);
    }
  }
  return sum;
}

std::vector<int32_t> shuffled_order(int64_t tokens, uint64_t key) {
  std::vector<int32_t> order(static_cast<size_t>(tokens));
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size(); i > 1; --i) {
    const auto j = static_cast<size_t>(random_uniform(key, i) * static_cast<double>(i));
    std::swap(order[i - 1], order[j]);
  }
  return order;
}

}  // namespace strand
