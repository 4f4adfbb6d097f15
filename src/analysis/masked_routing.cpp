#include "analysis/masked_routing.h"

#include "core/error.h"
#include "kernels/staging.h"

namespace strand {

namespace {
int64_t candidates(const MoeConfig& moe) {
  return moe.groups_kept * (moe.num_experts / moe.groups);
}
}  // namespace

int64_t most_masked(const MoeConfig& moe) {
  return candidates(moe) - moe.top_k;
}

MaskedRouting::MaskedRouting(Session& session, int64_t masked) : session_(session), masked_(masked) {
  const MoeConfig& moe = session.config().moe;
  require(masked >= 0 && masked <= most_masked(moe), "{} experts of {} are masked, and a token uses {}", masked,
          candidates(moe), moe.top_k);
}

Tensor MaskedRouting::buffer(DeviceMemory& memory, DType type, int64_t rows, int64_t columns) {
  const size_t bytes = static_cast<size_t>(rows * columns) * size_of(type);
  if (memory.bytes() < bytes) memory = DeviceMemory(session_.device(), MemoryKind::device, bytes);
  return memory.tensor(type, {rows, columns});
}

void MaskedRouting::chosen(int64_t layer, const Tensor&, const Routing& routing) {
  if (masked_ == 0) return;
  const Config& config = session_.config();
  const auto top_k = static_cast<size_t>(config.moe.top_k), more = static_cast<size_t>(config.moe.top_k + masked_);
  const int64_t tokens = routing.selected.dim(0);
  Ops& ops = session_.ops();
  Gating wide = gating(config.moe);
  wide.top_k = static_cast<int64_t>(more);
  const Tensor selected = buffer(selected_, DType::i32, tokens, wide.top_k);
  const Tensor gates = buffer(gates_, routing.gates.dtype, tokens, wide.top_k);
  ops(Route{.gating = wide,
            .logits = routing.logits,
            .bias = session_.parameters().router_bias(layer + config.model.dense_layers),
            .probs = buffer(probs_, routing.probs.dtype, tokens, config.moe.num_experts),
            .selected = selected,
            .gates = gates});
  const std::vector<double> ids = download_values(ops, selected), weights = download_values(ops, gates);
  std::vector<double> kept_ids, kept_weights;
  for (size_t first = static_cast<size_t>(masked_); first < ids.size(); first += more) {
    double sum = 0;
    for (size_t k = first; k < first + top_k; ++k) sum += weights[k];
    for (size_t k = first; k < first + top_k; ++k) {
      kept_ids.push_back(ids[k]);
      kept_weights.push_back(config.moe.renormalize ? weights[k] / sum * config.moe.routed_scale : weights[k]);
    }
  }
  upload_values(ops, routing.selected, kept_ids);
  upload_values(ops, routing.gates, kept_weights);
}

}  // namespace strand
