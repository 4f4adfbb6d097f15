#pragma once
// The backend that computes nothing and counts everything: FLOPs, bytes read and written and calls, by operation
// family, and the memory asked for. A run of the real step on it says what the step costs, so the plan cannot drift
// from the truth.
//
// FLOPs are those of matrix products (2 m n k each; element-wise work is not counted). Attention counts the causal
// half: forward 2 products of S²/2 a head, of widths A and U, backward 3 and 2 (it recomputes the scores). Attention over a cache counts a
// full one, as positions are data. Expert products count real rows (T·K), not padding. Bytes are the sizes of an
// operation's tensors, each read or written once; experts' rows likewise count as stored.
#include <algorithm>

#include "kernels/op_workspaces.h"
#include "kernels/ops.h"

namespace strand {

struct PlanCounts {
  double flops[op_family_count] = {};
  double bytes[op_family_count] = {};
  int64_t calls[op_family_count] = {};

  double total_flops() const;
  double total_bytes() const;
};

/// Stands for a device of these traits, which need not be there. Its memory is addresses that are never mapped.
class PlanDevice final : public Device {
 public:
  explicit PlanDevice(const DeviceTraits& traits) : traits_(traits) {}

  const char* name() const override { return "plan"; }
  DeviceTraits traits() const override { return traits_; }
  std::unique_ptr<Ops> make_ops() override;
  void* allocate(MemoryKind kind, size_t bytes) override;
  void deallocate(MemoryKind kind, void* memory) noexcept override;
  AvailableMemory available_memory() const override { return {UINT64_MAX, "a plan, which takes no memory"}; }
  uint64_t peak_bytes() const override { return allocated_; }
  void upload(const void*, const Tensor&) override {}
  /// Zeros: there is no data.
  void download(const Tensor& device, void* host) override;
  void enqueue_upload(const void*, const Tensor&, Stream) override {}
  void enqueue_download(const Tensor& device, void* staging, Stream) override { download(device, staging); }
  void synchronize() override {}
  std::unique_ptr<Event> make_event() override;
  std::unique_ptr<Event> make_timed_event() override { return make_event(); }
  int steps_ahead() const override { return 0; }
  PeakRate measure_peak(PeakKind, int) override { return {}; }
  std::string description() const override { return "a plan: nothing is computed"; }

 private:
  DeviceTraits traits_;
  size_t allocated_ = 0;
};

class PlanOps final : public Ops {
 public:
  explicit PlanOps(Device& device) : Ops(device), workspaces_(device.traits().workspaces) {}

  const char* name() const override { return "plan"; }

  const PlanCounts& counts() const { return counts_; }
  void reset_counts() { counts_ = {}; }
  /// Of all operations so far, the most that one of them works in beside its tensors, in bytes.
  size_t workspace_bytes() const { return workspace_bytes_; }

#define STRAND_OVERRIDE_RUN(Name, family) \
  void run(const Name& op) override {     \
    reserve(op);                          \
    count(op);                            \
  }
  STRAND_FOR_EACH_OP(STRAND_OVERRIDE_RUN)
#undef STRAND_OVERRIDE_RUN

 private:
#define STRAND_DECLARE_COUNT(Name, family) void count(const Name&);
  STRAND_FOR_EACH_OP(STRAND_DECLARE_COUNT)
#undef STRAND_DECLARE_COUNT
  void book(OpFamily family, double flops, std::initializer_list<Tensor> tensors);
  template <typename Op>
  void reserve(const Op& op) {
    if (workspaces_) workspace_bytes_ = std::max(workspace_bytes_, workspaces_->bytes(op));
  }

  std::shared_ptr<const OpWorkspaces> workspaces_;
  size_t workspace_bytes_ = 0;
  PlanCounts counts_;
};

}  // namespace strand
