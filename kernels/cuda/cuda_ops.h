#pragma once
// The CUDA backend: act is f32 or bf16, acc is f32. Operations are enqueued on one stream and return at once. Same
// shapes, same GPU and same cuBLAS: same bits; every sum has one order, and no operation uses floating-point atomics.
//
// One .cu file an operation family; each defines the `run` overloads of its operations.
#include <cublas_v2.h>
#include <cuda_runtime.h>

#include "kernels/ops.h"

namespace strand {

class CudaOps final : public Ops {
 public:
  /// On GPU number `gpu` of this process. Throws Error when there is none.
  explicit CudaOps(int gpu);
  ~CudaOps() override;
  CudaOps(const CudaOps&) = delete;
  CudaOps& operator=(const CudaOps&) = delete;

  const char* name() const override { return "cuda"; }
  /// The rows of a tensor-core tile: a tile holds rows of one expert only.
  int64_t row_alignment() const override { return 16; }
  void* allocate(size_t bytes) override;
  void deallocate(void* memory) noexcept override;
  void upload(const void* host, const Tensor& device) override;
  void download(const Tensor& device, void* host) override;
  void synchronize() override;

#define STRAND_OVERRIDE_RUN(Name, family) void run(const Name&) override;
  STRAND_FOR_EACH_OP(STRAND_OVERRIDE_RUN)
#undef STRAND_OVERRIDE_RUN

 private:
  /// At least `bytes` of device memory, aligned to 256 bytes, contents undefined, for partial results of one operation:
  /// the next operation on the stream uses the same memory. It grows to what the largest operation needs.
  void* workspace(size_t bytes);
  template <typename T>
  T* workspace_of(int64_t elements) {
    return static_cast<T*>(workspace(static_cast<size_t>(elements) * sizeof(T)));
  }

  int gpu_;
  int multiprocessors_ = 0;
  cudaStream_t stream_ = nullptr;
  cublasHandle_t blas_ = nullptr;
  void* blas_workspace_ = nullptr;
  void* workspace_ = nullptr;
  size_t workspace_bytes_ = 0;
};

}  // namespace strand
