#pragma once
// What placing experts by their coupling would gain on several ranks (docs/analysis.md, "Placement"; the idea is that
// of arXiv 2602.14159, section on inference).
#include <cstdint>
#include <vector>

#include "analysis/trace.h"

namespace strand {

/// [L][E]: the rank of each expert.
using Placement = std::vector<std::vector<int64_t>>;

/// Expert e of every layer on rank e mod R.
Placement round_robin_placement(int64_t layers, int64_t experts, int64_t ranks);

/// Which tokens of a trace are looked at, by the number of their sequence.
enum class Sequences : uint8_t { all, even, odd };

/// Layer 0 round-robin, and each layer above so that the J that its experts have with those of the layer below on the
/// same rank is the largest, with E/R experts on each rank. R divides E.
Placement coupled_placement(const Trace& trace, int64_t ranks, Sequences sequences);

/// coupled_placement(), and then sweeps down and up in turn that place each layer anew, where the J with both
/// neighbours on the same rank is the largest, until a sweep gains nothing. No placement of one layer alone is better
/// then.
struct SweptPlacement {
  Placement placement;
  int64_t sweeps = 1;  ///< that gained something, the first one included
};
SweptPlacement swept_placement(const Trace& trace, int64_t ranks, Sequences sequences);

/// The J of all neighbouring layers whose experts are on one rank.
int64_t placed_together(const Trace& trace, const Placement& placement, Sequences sequences);

/// The home rank of each sequence that is looked at, −1 for the others: the rank with most of its selections in layer
/// 0, among those that have fewer than ⌈sequences/R⌉; the sequences whose best rank has most come first (ties: the
/// earlier one; the lower rank).
std::vector<int64_t> home_ranks(const Trace& trace, const Placement& placement, int64_t ranks, Sequences sequences);

struct Locality {
  double local = 0;                  ///< share of selections whose expert is on the token's home rank
  double path = 0;                   ///< share of the J of neighbouring layers on one rank; 0 with one layer
  double foreign_ranks_a_token = 0;  ///< other ranks that a token's rows go to, summed over layers
};
Locality locality(const Trace& trace, const Placement& placement, int64_t ranks, Sequences sequences);

}  // namespace strand
