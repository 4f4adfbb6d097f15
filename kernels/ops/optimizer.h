#pragma once
#include "kernels/ops/step_numbers.h"

namespace strand {

/// sum += Σ x²
struct SumOfSquares {
  Tensor x;    ///< acc, any shape
  Tensor sum;  ///< [1] f64, accumulated
  void check() const;
};

/// AdamW, decoupled decay, bias-corrected (docs/mathematics.md, section 4):
///   m = β1 m + (1−β1) g,  v = β2 v + (1−β2) g²,  w −= lr (m̂ / (√v̂ + eps) + decay · w),  w as before the update.
/// g = gradient_scale · gradient (the clip factor). One pass; also rounds w into the copy that the GEMMs read.
/// Nothing changes when numbers[apply] is 0.
struct AdamW {
  Tensor weight;      ///< acc, any shape: the master copy
  Tensor weight_act;  ///< act, or none when the model reads the master copy itself
  Tensor gradient;    ///< acc
  Tensor m, v;        ///< acc
  double beta1 = 0, beta2 = 0, eps = 0;
  double decay = 0;  ///< 0 for norms
  Tensor numbers;    ///< [step_number_count] f64: learning_rate (lr), gradient_scale, updates (≥ 1), apply
  void check() const;
};

/// How far AdamW has moved weights, and how large they are:
///   squared_update += Σ Δw²,  squared_weight += Σ w²
/// Weights and moments are those that AdamW left. With w₀ = w + Δw before the update, Δw = lr (m̂ / (√v̂ + eps) +
/// decay · w₀) is lr (m̂ / (√v̂ + eps) + decay · w) / (1 − lr · decay). It is 0 when numbers[apply] is 0.
struct SumOfUpdates {
  Tensor weight;  ///< acc, any shape: the master copy
  Tensor m, v;    ///< acc
  double beta1 = 0, beta2 = 0, eps = 0, decay = 0;
  Tensor numbers;         ///< [step_number_count] f64: learning_rate (lr), updates (≥ 1), apply
  Tensor squared_update;  ///< [1] f64, accumulated
  Tensor squared_weight;  ///< [1] f64, accumulated
  void check() const;
};

}  // namespace strand
