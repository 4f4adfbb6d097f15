// The assignment is compared with the best of all permutations.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "analysis/assignment.h"
#include "core/random.h"
#include "tests/catch.h"

using namespace strand;

namespace {
std::vector<double> random_weights(int64_t rows, int64_t columns, uint64_t seed, double levels) {
  std::vector<double> weights;
  for (int64_t i = 0; i < rows * columns; ++i)
    weights.push_back(std::floor(levels * (random_uniform(seed, static_cast<uint64_t>(i)) - 0.3)));
  return weights;
}

/// The best total over all ways in which each element of the smaller side gets one of the larger side.
double best_by_trying(const std::vector<double>& weights, int64_t rows, int64_t columns) {
  const int64_t most = std::max(rows, columns), fewest = std::min(rows, columns);
  std::vector<int64_t> order(static_cast<size_t>(most));
  std::iota(order.begin(), order.end(), 0);
  double best = -1e300;
  do {
    double total = 0;
    for (int64_t i = 0; i < fewest; ++i) {
      const int64_t j = order[static_cast<size_t>(i)];
      total += weights[static_cast<size_t>(rows <= columns ? i * columns + j : j * columns + i)];
    }
    best = std::max(best, total);
  } while (std::next_permutation(order.begin(), order.end()));
  return best;
}
}  // namespace

TEST_CASE("The best assignment is the best of all permutations, for every shape") {
  uint64_t seed = 0;
  for (int64_t rows = 1; rows <= 6; ++rows) {
    for (int64_t columns = 1; columns <= 6; ++columns) {
      for (const double levels : {3.0, 1000.0}) {  // many ties, and hardly any; some weights are below 0
        const std::vector<double> weights = random_weights(rows, columns, ++seed, levels);
        const Assignment found = best_assignment(weights, rows, columns);
        INFO(rows << " x " << columns << ", seed " << seed);
        CHECK(found.total == best_by_trying(weights, rows, columns));
        std::set<int64_t> used;
        double total = 0;
        for (int64_t i = 0; i < rows; ++i) {
          const int64_t j = found.column_of_row[static_cast<size_t>(i)];
          if (j < 0) continue;
          CHECK(used.insert(j).second);
          total += weights[static_cast<size_t>(i * columns + j)];
        }
        CHECK(static_cast<int64_t>(used.size()) == std::min(rows, columns));
        CHECK(total == found.total);
      }
    }
  }
}

TEST_CASE("A hidden permutation is found among 200 rows") {
  constexpr int64_t n = 200;
  std::vector<int64_t> hidden(n);
  std::iota(hidden.begin(), hidden.end(), 0);
  std::reverse(hidden.begin(), hidden.end());
  std::rotate(hidden.begin(), hidden.begin() + 77, hidden.end());
  CountMatrix counts(n, n);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      counts.at(i, j) = static_cast<int64_t>(10 * random_uniform(5, static_cast<uint64_t>(i * n + j)));
  for (int64_t i = 0; i < n; ++i) counts.at(i, hidden[static_cast<size_t>(i)]) = 10 + i;
  CHECK(best_assignment(counts).column_of_row == hidden);
}
