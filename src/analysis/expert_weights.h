#pragma once
// How alike the weights of a layer's experts are (docs/analysis.md, "Weights of experts").
#include <vector>

#include "kernels/ops.h"

namespace strand {

/// Cosines between experts, each taken as one vector of its 3·D·F weights. Over e ≠ ν; 0 for a single expert.
struct WeightCosines {
  double mean = 0;           ///< signed
  double mean_absolute = 0;  ///< of |cos|
  double max_absolute = 0;
  std::vector<double> pairs;  ///< [E, E], signed; the diagonal is 1, or 0 where all weights are 0
};

/// gate_up [E, 2F, D], down [E, D, F]: all experts of a layer. A few million numbers are on the host at a time.
WeightCosines weight_cosines(Ops& ops, const Tensor& gate_up, const Tensor& down);

}  // namespace strand
