#pragma once
// Looks at a forward pass while it runs. The analysis of routing is one; training and generation have none.
#include "core/tensor.h"

namespace strand {

struct Routing;

class ForwardObserver {
 public:
  virtual ~ForwardObserver() = default;
  /// MoE layer `layer`, counted from the first one, has chosen the experts of x [T, D] act: the logits, probs, selected
  /// and gates of `routing` are there. Nothing else has read the choice, so `selected` and `gates` may be rewritten.
  /// What is enqueued here runs before the experts do. Calls come in the order of the layers.
  virtual void chosen([[maybe_unused]] int64_t layer, [[maybe_unused]] const Tensor& x,
                      [[maybe_unused]] const Routing& routing) {}
  /// The head has computed the logits [rows, V] acc of the tokens from `first` on. They are there during the call only.
  virtual void predicted([[maybe_unused]] int64_t first, [[maybe_unused]] const Tensor& logits) {}
};

}  // namespace strand
