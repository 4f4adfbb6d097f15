#include "model/memory_check.h"

#include "core/error.h"

namespace strand {

namespace {
std::string gib(uint64_t bytes) {
  return fmt::format("{:.2f} GiB", static_cast<double>(bytes) / (1 << 30));
}
}  // namespace

void check_memory(const SessionPlan& plan, const AvailableMemory& available) {
  if (plan.bytes() <= available.bytes) return;
  const std::string there = fmt::format("{} available ({})", gib(available.bytes), available.source);
  if (plan.model.bytes > available.bytes) {
    fail(
        "not enough memory: the model alone (weights, gradients, optimizer moments) takes {}, with {}; this machine "
        "needs a smaller model (moe.num_experts, moe.expert_ffn, model.num_layers, model.hidden_size)",
        gib(plan.model.bytes), there);
  }
  fail(
      "not enough memory: {} needed (model {}, activations {}, scratch {}), with {}; lower train.micro_batch_size or "
      "data.sequence_length, or set train.recompute to experts or block (`strand plan CONFIG` shows what each takes)",
      gib(plan.bytes()), gib(plan.model.bytes), gib(plan.step.bytes), gib(plan.scratch.bytes), there);
}

void check_snapshot_memory(const SessionPlan& plan, int ranks, const AvailableMemory& available) {
  const uint64_t snapshot = static_cast<uint64_t>(plan.parameters) * 3 * sizeof(float) / static_cast<uint64_t>(ranks);
  require(plan.bytes() + snapshot <= available.bytes,
          "not enough memory: {} for training and {} for a copy that checkpoints are written from, with {} available "
          "({}); {}",
          gib(plan.bytes()), gib(snapshot), gib(available.bytes), available.source,
          ranks == 1 ? "set train.background_checkpoints to false" : "use more hosts, or a smaller model");
}

}  // namespace strand
