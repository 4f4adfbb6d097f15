#pragma once
// Gradients of a step on their way to the ranks that own them: one reduce-scatter a bucket, begun when backward has
// completed its last gradient. No divisor: ranks sum (model/loss_scale.h).
#include <cstdint>
#include <vector>

#include "model/session.h"

namespace strand {

class GradientReduction {
 public:
  explicit GradientReduction(Session& session);

  /// Begins with every bucket that is complete after the backward of `layer` (Transformer::train's layer_done, in the
  /// last micro-step).
  void layer_done(int64_t layer);
  /// Begins what has not begun, and waits for all: each bucket's owned part is then the sum over its group, and the
  /// rest of its gradients is undefined. Ready for the next step.
  void finish();

 private:
  Session& session_;
  DType travel_;
  std::vector<Communicator::Work> works_;  ///< by bucket
  size_t begun_ = 0;
};

}  // namespace strand
