#pragma once
// Brings the gradients of a step to the ranks that own them, by one reduce-scatter for each bucket, which begins when
// backward has completed the bucket's last gradient. Ranks sum without a divisor (model/loss_scale.h).
#include <cstdint>
#include <vector>

#include "model/session.h"

namespace strand {

class GradientReduction {
 public:
  explicit GradientReduction(Session& session);

  /// Begins the reduction of every bucket that is complete after the backward pass of `layer`. It is called as
  /// layer_done of Transformer::train, in the last micro-step.
  void layer_done(int64_t layer);
  /// Begins the reductions that have not begun, and waits for all. Then the owned part of each bucket is the sum over
  /// its group, the rest of its gradients is undefined, and the next step may begin.
  void finish();

 private:
  Session& session_;
  DType travel_;
  std::vector<Communicator::Work> works_;  ///< by bucket
  size_t begun_ = 0;
};

}  // namespace strand
