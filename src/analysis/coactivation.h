#pragma once
// Which experts of a layer are used together (docs/analysis.md, "Experts used together").
#include "analysis/count_matrix.h"

namespace strand {

/// Mean over the experts e that are not idle of max over ν ≠ e of P(ν active | e active). `pairs`: pair_counts(), E
/// > 1.
double coactivation_peak(const CountMatrix& pairs);

}  // namespace strand
