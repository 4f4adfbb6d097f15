#include "kernels/host_numbers.h"

#include <algorithm>
#include <cmath>

namespace strand {

void clip_gradient(const ClipGradient& op) {
  const double norm = std::sqrt(*static_cast<const double*>(op.sum_of_squares.data));
  const auto* terms = static_cast<const double*>(op.terms.data);
  const bool finite = std::isfinite(norm) && std::all_of(terms, terms + op.terms.elements(),
                                                         [](double value) { return std::isfinite(value); });
  double& halted = step_number(op.numbers, StepNumber::halted);
  const bool apply = finite && halted == 0;
  if (!finite && op.after == AfterNonfinite::halt) halted = 1;
  step_number(op.numbers, StepNumber::gradient_norm) = norm;
  step_number(op.numbers, StepNumber::gradient_scale) =
      op.max_norm > 0 && norm > op.max_norm ? op.max_norm / norm : 1.0;
  step_number(op.numbers, StepNumber::apply) = apply ? 1.0 : 0.0;
  if (apply) step_number(op.numbers, StepNumber::updates) += 1;
}

}  // namespace strand
