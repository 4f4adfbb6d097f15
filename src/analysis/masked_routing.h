#pragma once
// A forward pass in which no token may use its best experts (docs/analysis.md, "Redundancy"; Dai et al. 2024,
// arXiv 2401.06066, section on the redundancy of experts).
#include "model/forward_observer.h"
#include "model/session.h"

namespace strand {

/// How many experts of a token may be masked, so that K are left to choose from: of all, or of the groups that it
/// keeps.
int64_t most_masked(const MoeConfig& moe);

/// In every layer, a token's `masked` best experts are left out and the next K are used, in the order in which the
/// model itself would select more of them. Scores are not computed anew; the weights of the chosen experts follow the
/// model's own rule.
class MaskedRouting final : public ForwardObserver {
 public:
  /// 0 <= masked <= most_masked().
  MaskedRouting(Session& session, int64_t masked);
  void chosen(int64_t layer, const Tensor& x, const Routing& routing) override;

 private:
  /// [rows, columns] in memory that grows when it has to.
  Tensor buffer(DeviceMemory& memory, DType type, int64_t rows, int64_t columns);

  Session& session_;
  int64_t masked_;
  DeviceMemory probs_, selected_, gates_;
};

}  // namespace strand
