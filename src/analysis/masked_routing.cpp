#include "analysis/masked_routing.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "kernels/staging.h"

namespace strand {

MaskedRouting::MaskedRouting(Session& session, int64_t masked) : session_(session), masked_(masked) {
  const MoeConfig& moe = session.config().moe;
  require(masked >= 0 && masked <= moe.num_experts - moe.top_k, "{} experts of {} are masked, and a token uses {}",
          masked, moe.num_experts, moe.top_k);
}

void MaskedRouting::chosen(int64_t layer, const Tensor&, const Routing& routing) {
  if (masked_ == 0) return;
  const MoeConfig& moe = session_.config().moe;
  const auto experts = static_cast<size_t>(moe.num_experts), top_k = static_cast<size_t>(moe.top_k);
  Ops& ops = session_.ops();
  // The scores of a softmax are p itself.
  std::vector<double> scores = download_values(ops, moe.score == RouterScore::softmax ? routing.probs : routing.logits);
  if (moe.score != RouterScore::softmax)
    for (double& s : scores) s = 1 / (1 + std::exp(-s));
  std::vector<double> bias(experts);
  if (const Tensor b = session_.parameters().router_bias(layer + session_.config().model.dense_layers))
    bias = download_values(ops, b);
  const size_t tokens = scores.size() / experts;
  std::vector<double> selected(tokens * top_k), gates(tokens * top_k);
  std::vector<size_t> order(experts);
  for (size_t t = 0; t < tokens; ++t) {
    const double* s = scores.data() + t * experts;
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return s[a] + bias[a] > s[b] + bias[b]; });
    const size_t* next = order.data() + masked_;
    double sum = 0;
    for (size_t k = 0; k < top_k; ++k) sum += s[next[k]];
    for (size_t k = 0; k < top_k; ++k) {
      selected[t * top_k + k] = static_cast<double>(next[k]);
      gates[t * top_k + k] = s[next[k]] / (moe.renormalize ? sum : 1.0) * moe.routed_scale;
    }
  }
  upload_values(ops, routing.selected, selected);
  upload_values(ops, routing.gates, gates);
}

}  // namespace strand
