#pragma once
// Cross-entropy of one chunk of rows of the head: model code calls it between the head's GEMMs, so logits never exist
// whole.
#include "kernels/ops/step_numbers.h"

namespace strand {

/// ce += target_share Σ_{valid t} −log softmax(logits_t)[target_t];
/// dlogits = ce_weight · target_share (softmax − onehot), 0 where ignored.
struct CrossEntropy {
  Tensor logits;   ///< [C, V] acc
  Tensor targets;  ///< [C] i32; below 0 = ignored; below V, checked by whoever made them
  Tensor numbers;  ///< [step_number_count] f64: target_share
  double ce_weight = 0;
  Tensor ce;       ///< [1] f64, accumulated
  Tensor dlogits;  ///< [C, V] act, or none (evaluation); may be the memory of logits when the types agree
  void check() const;
};

}  // namespace strand
