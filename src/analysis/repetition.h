#pragma once
// Whether neighbouring tokens use the same experts (docs/analysis.md, "Repetition").
#include "analysis/trace.h"

namespace strand {

struct Repetition {
  double top_1 = 0;  ///< share of pairs with the same first expert
  double any = 0;    ///< share of pairs with a common expert
};

/// Compares the tokens t and t + 1 of each sequence. It is 0 where sequences have one token.
Repetition repetition(const Selections& selections, int64_t sequence_length);
/// What uniform routing would give.
Repetition chance_repetition(int64_t experts, int64_t top_k);

}  // namespace strand
