#include "model/feed_forward.h"

namespace strand {

FeedForwardKept FeedForwardKept::allocate(Context& c, const Batch& batch, const LayerTensors& w) {
  return {c.step.allocate("ffn.gate_up", c.types.act, {batch.rows(), w.feed_forward_gate_up.dim(0)})};
}

void feed_forward_recompute(Context& c, const LayerTensors& w, const FeedForwardKept& kept, const Tensor& x) {
  c.ops(Linear{.x = x, .weight = w.feed_forward_gate_up, .y = kept.gate_up});
}

void feed_forward_forward(Context& c, const LayerTensors& w, const FeedForwardKept& kept, const Tensor& x,
                          const Tensor& out) {
  const Arena::Scope scope(c.scratch);
  feed_forward_recompute(c, w, kept, x);
  const Tensor z = c.scratch.allocate("z", c.types.act, {x.dim(0), w.feed_forward_down.dim(1)});
  c.ops(Swiglu{.gate_up = kept.gate_up, .z = z});
  c.ops(Linear{.x = z, .weight = w.feed_forward_down, .y = out});
}

void feed_forward_backward(Context& c, const LayerTensors& w, const LayerTensors& dw, const FeedForwardKept& kept,
                           const Tensor& x, const Tensor& dout, const Tensor& dx) {
  const Arena::Scope scope(c.scratch);
  const Tensor dz = c.scratch.allocate("dz", c.types.act, {x.dim(0), w.feed_forward_down.dim(1)});
  c.ops(LinearBackwardInput{.dy = dout, .weight = w.feed_forward_down, .dx = dz});
  c.ops(SwigluBackward{.gate_up = kept.gate_up, .dz = dz, .weighted_z = dz, .dgate_up = kept.gate_up});
  c.ops(LinearBackwardWeight{.dy = dout, .x = dz, .dweight = dw.feed_forward_down});  // dz now holds z
  c.ops(LinearBackwardInput{.dy = kept.gate_up, .weight = w.feed_forward_gate_up, .dx = dx});
  c.ops(LinearBackwardWeight{.dy = kept.gate_up, .x = x, .dweight = dw.feed_forward_gate_up});
}

}  // namespace strand
