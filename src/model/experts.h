#pragma once
// The experts of a MoE layer, from tokens to rows and back: dispatch, compute, combine (and unsort, which combine does
// by gathering through the inverse map in slot order). SP and O live here.
#include "model/context.h"
#include "model/parameters.h"
#include "model/routing.h"

namespace strand {

struct ExpertsKept {
  Tensor gate_up;  ///< [R, 2F] act; backward overwrites it
  Tensor y;        ///< [R, D] act, the experts' outputs; kept only when O has a weight, whose gradient needs them

  static ExpertsKept allocate(Context& c, const Routing& r, const LossContext& loss);
};

/// out [T, D] acc (+)= Σ_k g_k expert_k(x);  x [T, D] act. Adds sp and o to the terms.
void experts_forward(Context& c, const LayerTensors& w, const Routing& r, const ExpertsKept& kept, const Tensor& x,
                     const LossContext& loss, Write write, const Tensor& out);

/// out [T, D] acc (+)= Σ_k g_k expert_k(x) and nothing else: no term, nothing kept.
void experts_inference(Context& c, const LayerTensors& w, const Routing& r, const Tensor& x, Write write,
                       const Tensor& out);

/// The part of forward that backward needs, again: the same operations on the same numbers, so the same bits.
void experts_recompute(Context& c, const LayerTensors& w, const Routing& r, const ExpertsKept& kept, const Tensor& x);

/// dx [T, D] acc (+)= gradient of x; writes dgates [T, K] acc. dout [T, D] act.
void experts_backward(Context& c, const LayerTensors& w, const LayerTensors& dw, const Routing& r,
                      const ExpertsKept& kept, const Tensor& x, const LossContext& loss, const Tensor& dout,
                      Write write, const Tensor& dx, const Tensor& dgates);

}  // namespace strand
