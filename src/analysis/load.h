#pragma once
// How evenly the experts of a layer are used (docs/analysis.md, "Load").
#include <cstdint>
#include <vector>

namespace strand {

struct Load {
  double max_violation = 0;
  double min_violation = 0;
  double cv = 0;
  double gini = 0;
  double dead = 0;
  double diversity = 0;
  std::vector<double> concentration;  ///< [E]
};

/// Computes the load from n [E], whose sum is above 0.
Load measure_load(const std::vector<int64_t>& counts);

/// The largest sum of a rank over the mean, with `ranks` ranks of E/ranks neighbouring experts each; `ranks` divides E.
double max_rank_load(const std::vector<int64_t>& counts, int64_t ranks);

/// The numbers 2, 4, 8 and so on up to E that divide E.
std::vector<int64_t> rank_numbers(int64_t experts);

}  // namespace strand
