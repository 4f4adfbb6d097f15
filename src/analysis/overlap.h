#pragma once
// How alike the vectors of a token's experts are: their inner activations z, or their outputs y (docs/analysis.md,
// "Overlap of experts").
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace strand {

constexpr int overlap_bins = 20;

struct Overlap {
  double mean_squared_cosine = 0;
  double mean_absolute_cosine = 0;
  std::array<double, overlap_bins> histogram{};  ///< shares of |cos|
  std::vector<std::optional<double>> pairs;      ///< [E, E]: mean cos²; none for a pair of few tokens, and e = ν
};

/// Adds up one layer, token by token.
class OverlapSum {
 public:
  explicit OverlapSum(int64_t experts);
  /// gram [K, K] = inner products of the vectors of the K > 1 experts of a token. A cosine with a vector whose norm is
  /// below 1e-12 counts as 0, as in the term sp.
  void add(std::span<const uint16_t> experts, std::span<const double> gram);
  /// The means over the tokens so far, of which there must be at least one.
  Overlap mean() const;

 private:
  int64_t experts_;
  int64_t count_ = 0;  ///< pairs of a token, each once
  double squares_ = 0, absolutes_ = 0;
  std::array<int64_t, overlap_bins> bins_{};
  std::vector<double> pair_squares_;  ///< [E, E], above the diagonal
  std::vector<int64_t> pair_counts_;
};

/// Means of cos² and |cos| of random directions in `dimensions` dimensions, |cos| for many of them.
struct RandomOverlap {
  double mean_squared_cosine, mean_absolute_cosine;
};
RandomOverlap random_overlap(int64_t dimensions);

}  // namespace strand
