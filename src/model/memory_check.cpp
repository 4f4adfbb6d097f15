#include "model/memory_check.h"

#include "core/error.h"

namespace strand {

namespace {
std::string gib(uint64_t bytes) {
  return fmt::format("{:.2f} GiB", static_cast<double>(bytes) / (1 << 30));
}
}  // namespace

const MemoryRemedy& training_remedy() {
  static const MemoryRemedy remedy = {
      .model =
          "this machine needs a smaller model (moe.num_experts, moe.expert_ffn, model.num_layers, model.hidden_size)",
      .batches =
          "lower train.micro_batch_size or data.sequence_length, or set train.recompute to experts or block (`strand "
          "plan CONFIG` shows what each takes)"};
  return remedy;
}

void check_memory(const SessionPlan& plan, const AvailableMemory& available, const MemoryRemedy& remedy) {
  if (plan.bytes() <= available.bytes) return;
  const std::string there = fmt::format("{} available ({})", gib(available.bytes), available.source);
  if (plan.model.bytes > available.bytes) {
    fail("not enough memory: the model alone takes {}, with {}; {}", gib(plan.model.bytes), there, remedy.model);
  }
  fail("not enough memory: {} needed (model {}, activations {}, scratch {}, workspaces {}), with {}; {}",
       gib(plan.bytes()), gib(plan.model.bytes), gib(plan.step.bytes), gib(plan.scratch.bytes),
       gib(plan.workspace + plan.libraries), there, remedy.batches);
}

AvailableMemory available_to_rank(const Device& device, int local_ranks) {
  return device.shares_host_memory() ? share_of(device.available_memory(), local_ranks) : device.available_memory();
}

void check_snapshot_memory(const SessionPlan& plan, int ranks, const Device& device, int local_ranks) {
  const bool shared = device.shares_host_memory();
  const AvailableMemory host =
      shared ? available_to_rank(device, local_ranks) : share_of(available_memory(), local_ranks);
  const uint64_t planned = shared ? plan.bytes() : 0;
  const uint64_t snapshot = static_cast<uint64_t>(plan.parameters) * 3 * sizeof(float) / static_cast<uint64_t>(ranks);
  require(planned + snapshot <= host.bytes,
          "not enough memory: {} for training and {} for a copy that checkpoints are written from, with {} available "
          "on the host ({}); {}",
          gib(planned), gib(snapshot), gib(host.bytes), host.source,
          ranks == 1 ? "set train.background_checkpoints to false" : "use more hosts, or a smaller model");
}

}  // namespace strand
