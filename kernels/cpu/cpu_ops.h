#pragma once
// The CPU backend: act is f32 or bf16, acc is f32. Operations run at the call and return when done, on the OpenMP
// threads of the process. Same shapes and same number of threads, same bits: every sum has one order, fixed by the
// partition of the work, and no operation uses floating-point atomics. Nor do the bits depend on the number of threads,
// except for matrix products (Linear, RouterLinear, GroupedLinear and their backwards) and dk and dv of
// AttentionBackward, which cut their sums by it.
//
// One file an operation family; each defines the `run` overloads of its operations.
#include <memory>

#include "kernels/cpu/workspace.h"
#include "kernels/op_workspaces.h"
#include "kernels/ops.h"

namespace strand {

class CpuGemm;  // gemm.h: matrix products by oneDNN, primitives cached by shape

class CpuOps final : public Ops {
 public:
  explicit CpuOps(Device& device);
  ~CpuOps() override;

  const char* name() const override { return "cpu"; }
  void reserve_workspace(size_t bytes) override { workspace_.at_least(bytes); }

#define STRAND_OVERRIDE_RUN(Name, family) void run(const Name&) override;
  STRAND_FOR_EACH_OP(STRAND_OVERRIDE_RUN)
#undef STRAND_OVERRIDE_RUN

 private:
  /// The buffers that an operation works in (workspace.h), until the next operation.
  template <typename Buffers, typename Op>
  Buffers buffers(const Op& op) {
    Workspace memory(workspace_.at_least(workspace_bytes<Buffers>(op)));
    return Buffers(memory, op);
  }

  std::unique_ptr<CpuGemm> gemm_;
  WorkspaceBlock workspace_;
};

/// What CpuOps works in on omp_get_max_threads() threads, operation by operation. Defined beside the operations.
class CpuWorkspaces final : public OpWorkspaces {
 public:
  using OpWorkspaces::bytes;
#define STRAND_OVERRIDE_BYTES(Name) size_t bytes(const Name& op) const override;
  STRAND_OVERRIDE_BYTES(Linear)
  STRAND_OVERRIDE_BYTES(LinearBackwardInput)
  STRAND_OVERRIDE_BYTES(LinearBackwardWeight)
  STRAND_OVERRIDE_BYTES(GroupedLinear)
  STRAND_OVERRIDE_BYTES(GroupedLinearBackwardInput)
  STRAND_OVERRIDE_BYTES(GroupedLinearBackwardWeight)
  STRAND_OVERRIDE_BYTES(RmsNormBackward)
  STRAND_OVERRIDE_BYTES(SplitHeads)
  STRAND_OVERRIDE_BYTES(SplitHeadsBackward)
  STRAND_OVERRIDE_BYTES(Attention)
  STRAND_OVERRIDE_BYTES(AttentionBackward)
  STRAND_OVERRIDE_BYTES(LatentNorm)
  STRAND_OVERRIDE_BYTES(LatentNormBackward)
  STRAND_OVERRIDE_BYTES(SplitLatentHeadsBackward)
  STRAND_OVERRIDE_BYTES(AbsorbKeys)
  STRAND_OVERRIDE_BYTES(ExpandValues)
  STRAND_OVERRIDE_BYTES(CacheAttention)
  STRAND_OVERRIDE_BYTES(RouterLinear)
  STRAND_OVERRIDE_BYTES(RouterLinearBackward)
  STRAND_OVERRIDE_BYTES(Route)
  STRAND_OVERRIDE_BYTES(RoutingStatistics)
  STRAND_OVERRIDE_BYTES(RouterTerms)
  STRAND_OVERRIDE_BYTES(RouterBackward)
  STRAND_OVERRIDE_BYTES(CouplingTokenTerm)
  STRAND_OVERRIDE_BYTES(CouplingSelect)
  STRAND_OVERRIDE_BYTES(CouplingJointBackward)
  STRAND_OVERRIDE_BYTES(SortSlots)
  STRAND_OVERRIDE_BYTES(SwigluBackward)
  STRAND_OVERRIDE_BYTES(SpecializationTerm)
  STRAND_OVERRIDE_BYTES(OrthogonalityTerm)
  STRAND_OVERRIDE_BYTES(CombineBackward)
  STRAND_OVERRIDE_BYTES(SortForExchange)
  STRAND_OVERRIDE_BYTES(SampledSlots)
  STRAND_OVERRIDE_BYTES(SpecializationBackward)
  STRAND_OVERRIDE_BYTES(CrossEntropy)
  STRAND_OVERRIDE_BYTES(SumOfSquares)
  STRAND_OVERRIDE_BYTES(SumOfUpdates)
#undef STRAND_OVERRIDE_BYTES
};

}  // namespace strand
