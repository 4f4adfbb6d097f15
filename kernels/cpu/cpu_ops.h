#pragma once
// The CPU backend: act is f32 or bf16, acc is f32. Operations run at the call and return when done, on the OpenMP
// threads of the process. Same shapes and same number of threads, same bits: every sum has one order, fixed by the
// partition of the work, and no operation uses floating-point atomics. Nor do the bits depend on the number of threads,
// except for matrix products (Linear, RouterLinear, GroupedLinear and their backwards) and dk and dv of
// AttentionBackward, which cut their sums by it.
//
// One file an operation family; each defines the `run` overloads of its operations.
#include <memory>

#include "kernels/ops.h"

namespace strand {

class CpuGemm;  // gemm.h: matrix products by oneDNN, primitives cached by shape

class CpuOps final : public Ops {
 public:
  explicit CpuOps(Device& device);
  ~CpuOps() override;

  const char* name() const override { return "cpu"; }

#define STRAND_OVERRIDE_RUN(Name, family) void run(const Name&) override;
  STRAND_FOR_EACH_OP(STRAND_OVERRIDE_RUN)
#undef STRAND_OVERRIDE_RUN

 private:
  std::unique_ptr<CpuGemm> gemm_;
};

}  // namespace strand
