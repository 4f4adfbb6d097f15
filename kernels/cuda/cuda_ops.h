#pragma once
// The CUDA backend: act is f32 or bf16, acc is f32. Operations are enqueued on the compute stream and return at once.
// Same shapes, same GPU and same cuBLAS: same bits; every sum has one order, and no operation uses floating-point
// atomics.
//
// Each operation family has a .cu file, which defines the `run` overloads of its operations.
#include <memory>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/workspaces.h"
#include "kernels/ops.h"

namespace strand {

class GroupedCublas;  // grouped_cublas.h

class CudaOps final : public Ops {
 public:
  explicit CudaOps(CudaDevice& device);
  ~CudaOps() override;

  const char* name() const override { return "cuda"; }
  void reserve_workspace(size_t bytes) override { cuda_.workspace(bytes); }

#define STRAND_OVERRIDE_RUN(Name, family) void run(const Name&) override;
  STRAND_FOR_EACH_OP(STRAND_OVERRIDE_RUN)
#undef STRAND_OVERRIDE_RUN

 private:
  /// Memory for partial results of an operation (CudaDevice::workspace). Throws Error when the plan has counted less.
  template <typename T, typename Op>
  T* workspace_of(const Op& op, int64_t elements) {
    return static_cast<T*>(planned_workspace(static_cast<size_t>(elements) * sizeof(T), workspaces_.bytes(op)));
  }
  void* planned_workspace(size_t bytes, size_t planned);

  CudaDevice& cuda_;
  cudaStream_t stream_;
  cublasHandle_t blas_;
  int multiprocessors_;
  gpu::CudaWorkspaces workspaces_;
  std::unique_ptr<GroupedCublas> grouped_cublas_;  ///< none: grouped products run on our own kernels
};

}  // namespace strand
