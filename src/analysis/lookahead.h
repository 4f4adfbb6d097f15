#pragma once
// How well the experts of a layer can be guessed one layer earlier (docs/analysis.md, "Looking one layer ahead").
#include "analysis/stability.h"

namespace strand {

struct Lookahead {
  Agreement tokens;             ///< guessed and real experts of each token
  double count_cosine = 0;      ///< of n [E], guessed and real
  double rank_correlation = 0;  ///< Spearman's, equal counts share their mean rank; 0 where all are equal
  double hottest = 0;           ///< overlap of the ⌈E/8⌉ busiest experts, 0 to 1
};

Lookahead lookahead(const Selections& guessed, const Selections& real);

/// ⌈E/8⌉
int64_t hottest_count(int64_t experts);

/// Ranks from 1 for the smallest; equal values share their mean rank.
std::vector<double> mean_ranks(const std::vector<int64_t>& values);

}  // namespace strand
