#pragma once
// The backend that computes nothing and counts everything: FLOPs, bytes read and written and calls, by operation
// family, and the memory asked for. A run of the real step on it says what the step costs, so the plan cannot drift
// from the truth.
//
// FLOPs are those of matrix products (2 m n k each; element-wise work is not counted). Attention counts the causal
// half: forward 2 products of S²/2 · A a head, backward 5 (it recomputes the scores). Attention over a cache counts a
// full one, as positions are data. Expert products count real rows (T·K), not padding. Bytes are the sizes of an
// operation's tensors, each read or written once; experts' rows likewise count as stored.
#include "kernels/ops.h"

namespace strand {

struct PlanCounts {
  double flops[op_family_count] = {};
  double bytes[op_family_count] = {};
  int64_t calls[op_family_count] = {};

  double total_flops() const;
  double total_bytes() const;
};

class PlanOps final : public Ops {
 public:
  /// `row_alignment` is that of the backend being planned for, as it sets the size of expert buffers.
  explicit PlanOps(int64_t row_alignment) : row_alignment_(row_alignment) {}

  const char* name() const override { return "plan"; }
  int64_t row_alignment() const override { return row_alignment_; }
  /// Addresses that are never mapped.
  void* allocate(size_t bytes) override;
  void deallocate(void*) noexcept override {}
  void upload(const void*, const Tensor&) override {}
  /// Zeros: there is no data.
  void download(const Tensor& device, void* host) override;
  void synchronize() override {}

  const PlanCounts& counts() const { return counts_; }
  void reset_counts() { counts_ = {}; }
  size_t allocated_bytes() const { return allocated_; }

#define STRAND_OVERRIDE_RUN(Name, family) void run(const Name&) override;
  STRAND_FOR_EACH_OP(STRAND_OVERRIDE_RUN)
#undef STRAND_OVERRIDE_RUN

 private:
  void count(OpFamily family, double flops, std::initializer_list<Tensor> tensors);

  int64_t row_alignment_;
  size_t allocated_ = 0;
  PlanCounts counts_;
};

}  // namespace strand
