#pragma once
// A forward pass in which no token may use its best experts (docs/analysis.md, "Redundancy"; Dai et al. 2024,
// arXiv 2401.06066, section on the redundancy of experts).
#include "model/forward_observer.h"
#include "model/session.h"

namespace strand {

/// In every layer, a token's `masked` best experts by s + b are left out and the next K are used. Scores are not
/// computed anew; the weights of the chosen experts follow the model's own rule.
class MaskedRouting final : public ForwardObserver {
 public:
  /// 0 <= masked <= E − K.
  MaskedRouting(Session& session, int64_t masked);
  void chosen(int64_t layer, const Tensor& x, const Routing& routing) override;

 private:
  Session& session_;
  int64_t masked_;
};

}  // namespace strand
