#include "analysis/lookahead.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "analysis/count_matrix.h"

namespace strand {

namespace {
double cosine(const std::vector<double>& a, const std::vector<double>& b) {
  const double norms =
      std::inner_product(a.begin(), a.end(), a.begin(), 0.0) * std::inner_product(b.begin(), b.end(), b.begin(), 0.0);
  return norms > 0 ? std::inner_product(a.begin(), a.end(), b.begin(), 0.0) / std::sqrt(norms) : 0;
}

std::vector<double> reals(const std::vector<int64_t>& values) {
  return {values.begin(), values.end()};
}

std::vector<double> centred(std::vector<double> values) {
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  for (double& x : values) x -= mean;
  return values;
}

/// The places of the `count` largest; ties to the lower one.
std::vector<size_t> busiest(const std::vector<int64_t>& counts, int64_t count) {
  std::vector<size_t> order(counts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return counts[a] > counts[b]; });
  order.resize(static_cast<size_t>(count));
  std::sort(order.begin(), order.end());
  return order;
}
}  // namespace

int64_t hottest_count(int64_t experts) {
  return (experts + 7) / 8;
}

std::vector<double> mean_ranks(const std::vector<int64_t>& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin;
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    for (size_t i = begin; i < end; ++i) ranks[order[i]] = static_cast<double>(begin + end + 1) / 2;
    begin = end;
  }
  return ranks;
}

Lookahead lookahead(const Selections& guessed, const Selections& real) {
  const std::vector<int64_t> guess = expert_counts(guessed), truth = expert_counts(real);
  const int64_t hot = hottest_count(real.experts());
  const std::vector<size_t> a = busiest(guess, hot), b = busiest(truth, hot);
  std::vector<size_t> common;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(common));
  return {.tokens = agreement(guessed, real),
          .count_cosine = cosine(reals(guess), reals(truth)),
          .rank_correlation = cosine(centred(mean_ranks(guess)), centred(mean_ranks(truth))),
          .hottest = static_cast<double>(common.size()) / static_cast<double>(hot)};
}

}  // namespace strand
