#pragma once
// Cross-entropy of one chunk of rows of the head: model code calls it between the head's GEMMs, so logits never exist
// whole.
#include "core/tensor.h"

namespace strand {

/// ce += value_share Σ_{valid t} −log softmax(logits_t)[target_t];  dlogits = grad_scale (softmax − onehot), 0 where
/// ignored.
struct CrossEntropy {
  Tensor logits;           ///< [C, V] acc
  Tensor targets;          ///< [C] i32; below 0 = ignored; below V, checked by whoever made them
  double value_share = 0;  ///< 1 / valid targets of the step
  double grad_scale = 0;   ///< ce weight / valid targets of the step
  Tensor ce;               ///< [1] f64, accumulated
  Tensor dlogits;          ///< [C, V] act, or none (evaluation); may be the memory of logits when the types agree
  void check() const;
};

}  // namespace strand
