#pragma once
// A SwiGLU block that every token passes: the FFN of a dense layer, and the un-gated shared expert of a MoE layer.
#include "model/context.h"
#include "model/parameters.h"

namespace strand {

struct FeedForwardKept {
  Tensor gate_up;  ///< [T, 2W] act; backward overwrites it

  static FeedForwardKept allocate(Context& c, const Batch& batch, const LayerTensors& w);
};

/// out [T, D] acc = down(silu(gate x) ⊙ up x), overwritten; x [T, D] act.
void feed_forward_forward(Context& c, const LayerTensors& w, const FeedForwardKept& kept, const Tensor& x,
                          const Tensor& out);

/// Computes the part of forward that backward needs once more.
void feed_forward_recompute(Context& c, const LayerTensors& w, const FeedForwardKept& kept, const Tensor& x);

/// dx [T, D] acc is overwritten; dout [T, D] act.
void feed_forward_backward(Context& c, const LayerTensors& w, const LayerTensors& dw, const FeedForwardKept& kept,
                           const Tensor& x, const Tensor& dout, const Tensor& dx);

}  // namespace strand
