#pragma once
// RMSNorm with the residual addition fused in. y = x · rsqrt(mean(x²) + eps) · w, statistics in acc.
#include "core/tensor.h"
#include "kernels/ops/linear.h"

namespace strand {

/// sum = residual + branch;  y = rmsnorm(sum) · weight. Without a branch, sum is the residual itself and is not
/// written.
struct AddRmsNorm {
  Tensor residual;  ///< [T, D] acc
  Tensor branch;    ///< [T, D] acc, or none
  Tensor weight;    ///< [D] acc
  double eps = 0;
  Tensor sum;   ///< [T, D] acc, none exactly when branch is none; may be the same memory as residual
  Tensor y;     ///< [T, D] act
  Tensor rstd;  ///< [T] acc, rsqrt(mean(sum²) + eps)
  void check() const;
};

/// With x̂ = x·rstd and a = dy·w:  dx = rstd (a − x̂ mean(a x̂)),  dw += Σ_t dy x̂.
/// dresidual (+)= dx; the result is also written to dresidual_act when given, as the gradient that the branch below
/// reads.
struct RmsNormBackward {
  Tensor dy;      ///< [T, D] acc
  Tensor x;       ///< [T, D] acc, what forward normalized (its `sum`)
  Tensor weight;  ///< [D] acc
  Tensor rstd;    ///< [T] acc
  Write write = Write::accumulate;
  Tensor dresidual;      ///< [T, D] acc
  Tensor dresidual_act;  ///< [T, D] act, or none (when act is acc, readers use dresidual itself)
  Tensor dweight;        ///< [D] acc, accumulated
  void check() const;
};

}  // namespace strand
