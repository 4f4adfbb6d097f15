#pragma once
// Products of the row blocks of experts by cuBLAS. It wants their sizes from the host, which therefore waits for the
// offsets in every one of these calls: they cannot be part of a captured step.
#include <cublas_v2.h>

#include <vector>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/grouped_gemm.h"

namespace strand {

class GroupedCublas {
 public:
  explicit GroupedCublas(CudaDevice& device);
  ~GroupedCublas();
  GroupedCublas(const GroupedCublas&) = delete;
  GroupedCublas& operator=(const GroupedCublas&) = delete;

  /// The products of grouped_forward and of its backward passes (grouped_gemm.h). Tensors are of `type`, bf16 or f32;
  /// dweight is f32.
  void forward(const void* x, const void* weight, void* y, cudaDataType_t type, const gpu::GroupShape& shape);
  void backward_input(const void* dy, const void* weight, void* dx, cudaDataType_t type, const gpu::GroupShape& shape);
  void backward_weight(const void* dy, const void* x, float* dweight, cudaDataType_t type,
                       const gpu::GroupShape& shape);

 private:
  /// The rows of an expert that has some.
  struct Block {
    int expert, first, rows;
  };
  const std::vector<Block>& read_blocks(const gpu::GroupShape& shape, const char* operation);
  /// to[r] [columns] = W_e or W_eᵀ times from[r] [inner], for the rows of `blocks`.
  void multiply_rows(const std::vector<Block>& blocks, const void* weight, cublasOperation_t weight_operation,
                     const void* from, void* to, cudaDataType_t type, const gpu::GroupShape& shape, int inner,
                     int columns, const char* operation);

  CudaDevice& device_;
  cudaStream_t stream_;
  DeviceMemory offsets_;  ///< staging
  cudaEvent_t arrived_ = nullptr;
  std::vector<Block> blocks_;
};

}  // namespace strand
