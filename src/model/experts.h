#pragma once
// The experts of a MoE layer, from tokens to rows and back: dispatch, compute, combine, one sequence for every layout
// (model/dispatcher.h says how rows travel), forward and backward side by side. The shared expert is computed while
// rows travel. SP and O live here.
#include "model/dispatcher.h"

namespace strand {

/// What the layer keeps for its backward in this step; after Dispatcher::count.
ExpertsKept allocate_experts(Context& c, const Routing& r, const LossContext& loss);

/// out [T, D] acc = Σ_k g_k expert_k(x), plus the shared expert where there is one. Adds sp and o to the terms.
void experts_forward(Context& c, const ExpertLayer& layer, const Tensor& out);

/// The part of forward that backward needs, again: the same operations on the same numbers, so the same bits.
void experts_recompute(Context& c, const ExpertLayer& layer);

/// dx [T, D] acc = gradient of x; writes dgates [T, K] acc and adds to the weights' gradients. dout [T, D] act.
void experts_backward(Context& c, const ExpertLayer& layer, const LayerTensors& dw, const Tensor& dout,
                      const Tensor& dx, const Tensor& dgates);

/// The same output as experts_forward's and nothing else: no term, nothing kept.
void experts_inference(Context& c, const LayerTensors& w, const Routing& r, const FeedForwardKept& shared,
                       const Tensor& x, const Tensor& out);

}  // namespace strand
