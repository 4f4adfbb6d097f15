#pragma once
// How much two routings of the same tokens agree: of two checkpoints of a run (docs/analysis.md, "Stability and
// saturation"), or a guess and the real one.
#include "analysis/trace.h"

namespace strand {

struct Agreement {
  double top_1 = 0;  ///< share of tokens with the same first expert
  double top_k = 0;  ///< mean of |A ∩ A'| / K
  double set = 0;    ///< share of tokens with A = A'
};

/// Compares two routings of the same tokens, at least one, with equal E and K.
Agreement agreement(const Selections& one, const Selections& other);
/// What uniform routing would give.
Agreement chance_agreement(int64_t experts, int64_t top_k);

}  // namespace strand
