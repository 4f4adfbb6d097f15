#include "analysis/load.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "analysis/count_matrix.h"
#include "core/error.h"

namespace strand {

Load measure_load(const std::vector<int64_t>& counts) {
  const auto experts = static_cast<double>(counts.size());
  const auto total = static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
  require(total > 0, "the load of {} experts that no token uses", counts.size());
  const double mean = total / experts;
  std::vector<int64_t> sorted = counts;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  Load load;
  load.max_violation = static_cast<double>(sorted.front()) / mean - 1;
  load.min_violation = 1 - static_cast<double>(sorted.back()) / mean;
  load.dead = static_cast<double>(std::count(counts.begin(), counts.end(), 0)) / experts;
  load.diversity = std::exp(entropy(counts)) / experts;
  double squares = 0, sum = 0;
  for (size_t i = 0; i < sorted.size(); ++i) {
    const auto n = static_cast<double>(sorted[i]);
    squares += (n - mean) * (n - mean);
    sum += n;
    load.concentration.push_back(sum / total);
    // Σ over all ordered pairs of |n_i − n_j| / (2 E² mean), from the places in descending order.
    load.gini += (experts - 1 - 2 * static_cast<double>(i)) * n / (experts * total);
  }
  load.cv = std::sqrt(squares / experts) / mean;
  return load;
}

double max_rank_load(const std::vector<int64_t>& counts, int64_t ranks) {
  const auto experts = static_cast<int64_t>(counts.size());
  require(ranks >= 1 && experts % ranks == 0, "{} experts do not divide over {} ranks", experts, ranks);
  const auto of_rank = static_cast<std::ptrdiff_t>(experts / ranks);
  int64_t largest = 0;
  for (auto first = counts.begin(); first != counts.end(); first += of_rank)
    largest = std::max(largest, std::accumulate(first, first + of_rank, int64_t{0}));
  const auto total = static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
  return static_cast<double>(largest) * static_cast<double>(ranks) / total;
}

std::vector<int64_t> rank_numbers(int64_t experts) {
  std::vector<int64_t> numbers;
  for (int64_t ranks = 2; ranks <= experts; ranks *= 2)
    if (experts % ranks == 0) numbers.push_back(ranks);
  return numbers;
}

}  // namespace strand
