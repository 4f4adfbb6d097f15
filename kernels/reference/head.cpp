// Cross-entropy: CE_t = −log softmax(logits_t)[target_t],  ∂CE_t/∂logits_tv = softmax(logits_t)_v − [v = target_t].
#include <algorithm>
#include <cmath>

#include "kernels/host_numbers.h"
#include "kernels/reference/reference_ops.h"
#include "kernels/reference/view.h"

namespace strand {

using namespace reference;

void ReferenceOps::run(const CrossEntropy& op) {
  const auto logits = matrix(op.logits), dlogits = matrix(op.dlogits);
  const auto targets = ids(op.targets);
  const int64_t V = logits.dim(1);
  const double share = step_number(op.numbers, StepNumber::target_share);
  for (int64_t t = 0; t < logits.dim(0); ++t) {
    if (targets(t) < 0) {  // ignored
      if (dlogits)
        for (int64_t v = 0; v < V; ++v) dlogits(t, v) = 0;
      continue;
    }
    double largest = logits(t, 0), sum = 0;
    for (int64_t v = 0; v < V; ++v) largest = std::max(largest, logits(t, v));
    for (int64_t v = 0; v < V; ++v) sum += std::exp(logits(t, v) - largest);
    const double logsumexp = largest + std::log(sum);

    scalar(op.ce) += share * (logsumexp - logits(t, targets(t)));
    if (!dlogits) continue;
    for (int64_t v = 0; v < V; ++v) {
      const double softmax = std::exp(logits(t, v) - logsumexp);
      dlogits(t, v) = op.ce_weight * share * (softmax - (v == targets(t) ? 1 : 0));
    }
  }
}

}  // namespace strand
