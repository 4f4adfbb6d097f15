#include "analysis/overlap.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace strand {

namespace {
constexpr double least_norm = 1e-12;
constexpr int64_t least_tokens = 20;  // of a pair, to be shown

double cosine(double product, double square_one, double square_other) {
  const double norms = std::sqrt(square_one) * std::sqrt(square_other);
  if (std::sqrt(square_one) < least_norm || std::sqrt(square_other) < least_norm) return 0;
  return std::clamp(product / norms, -1.0, 1.0);
}
}  // namespace

OverlapSum::OverlapSum(int64_t experts)
    : experts_(experts),
      pair_squares_(static_cast<size_t>(experts * experts)),
      pair_counts_(static_cast<size_t>(experts * experts)) {}

void OverlapSum::add(std::span<const uint16_t> experts, std::span<const double> gram) {
  const size_t k = experts.size();
  for (size_t i = 0; i < k; ++i) {
    for (size_t j = i + 1; j < k; ++j) {
      const double c = cosine(gram[i * k + j], gram[i * k + i], gram[j * k + j]);
      const double absolute = std::abs(c);
      ++count_;
      squares_ += c * c;
      absolutes_ += absolute;
      ++bins_[static_cast<size_t>(std::min<double>(absolute * overlap_bins, overlap_bins - 1))];
      const int64_t low = std::min(experts[i], experts[j]), high = std::max(experts[i], experts[j]);
      pair_squares_[static_cast<size_t>(low * experts_ + high)] += c * c;
      ++pair_counts_[static_cast<size_t>(low * experts_ + high)];
    }
  }
}

Overlap OverlapSum::mean() const {
  const auto count = static_cast<double>(count_);
  Overlap o{.mean_squared_cosine = squares_ / count, .mean_absolute_cosine = absolutes_ / count};
  for (size_t i = 0; i < bins_.size(); ++i) o.histogram[i] = static_cast<double>(bins_[i]) / count;
  o.pairs.resize(pair_squares_.size());
  for (int64_t e = 0; e < experts_; ++e) {
    for (int64_t v = e + 1; v < experts_; ++v) {
      const auto place = static_cast<size_t>(e * experts_ + v);
      if (pair_counts_[place] < least_tokens) continue;
      const double value = pair_squares_[place] / static_cast<double>(pair_counts_[place]);
      o.pairs[place] = o.pairs[static_cast<size_t>(v * experts_ + e)] = value;
    }
  }
  return o;
}

RandomOverlap random_overlap(int64_t dimensions) {
  const auto d = static_cast<double>(dimensions);
  return {1 / d, std::sqrt(2 / (std::numbers::pi * d))};
}

}  // namespace strand
