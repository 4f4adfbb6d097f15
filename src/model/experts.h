#pragma once
// The experts of a MoE layer, from tokens to rows and back, forward and backward side by side. Every layout runs the
// same sequence of dispatch, computation and combination; model/dispatcher.h says how rows travel. The shared expert is
// computed while they do. The loss terms SP and O are computed here.
#include "model/dispatcher.h"

namespace strand {

/// Allocates what the layer keeps for its backward pass in this step. To be called after Dispatcher::count.
ExpertsKept allocate_experts(Context& c, const Routing& r, const LossContext& loss);

/// Allocates the Gram matrices that the measured terms need. `tokens` is T.
PairGrams allocate_pair_grams(Context& c, int64_t tokens, const LossContext& loss);

/// out [T, D] acc = Σ_k g_k expert_k(x), plus the shared expert where there is one. Adds sp and o to the terms.
void experts_forward(Context& c, const ExpertLayer& layer, const Tensor& out);

/// Computes the part of forward that backward needs once more, by the same operations and so to the same bits.
void experts_recompute(Context& c, const ExpertLayer& layer);

/// dx [T, D] acc = gradient of x; writes dgates [T, K] acc and adds to the weights' gradients. dout [T, D] act.
void experts_backward(Context& c, const ExpertLayer& layer, const LayerTensors& dw, const Tensor& dout,
                      const Tensor& dx, const Tensor& dgates);

/// Computes the output of experts_forward and nothing else: no term is measured, and nothing is kept.
void experts_inference(Context& c, const LayerTensors& w, const Routing& r, const FeedForwardKept& shared,
                       const Tensor& x, const Tensor& out);

}  // namespace strand
