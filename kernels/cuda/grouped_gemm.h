#pragma once
// Products of the row blocks of experts by kernels of our own. They read the offsets of the blocks from device memory,
// so that the host waits for nothing. ops/linear.h says what the offsets mean. Blocks may have any alignment.
//
// bf16 runs on tensor cores (grouped_gemm_mma.cu), f32 by fused multiply-add (grouped_gemm_fma.cu). Sums are fp32 and
// have one order.
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace strand::gpu {

struct GroupShape {
  const int* offsets;   ///< [E + 1], device memory
  int experts;          ///< E
  int rows;             ///< R > 0: offsets[E] is at most this
  int inputs, outputs;  ///< I, O: a weight is [E, O, I]
};

/// y[r] = W_e x[r]
void grouped_forward(const __nv_bfloat16* x, const __nv_bfloat16* weight, __nv_bfloat16* y, const GroupShape& shape,
                     cudaStream_t stream);
void grouped_forward(const float* x, const float* weight, float* y, const GroupShape& shape, cudaStream_t stream);

/// dx[r] = W_eᵀ dy[r]
void grouped_backward_input(const __nv_bfloat16* dy, const __nv_bfloat16* weight, __nv_bfloat16* dx,
                            const GroupShape& shape, cudaStream_t stream);
void grouped_backward_input(const float* dy, const float* weight, float* dx, const GroupShape& shape,
                            cudaStream_t stream);

/// dW_e += Σ_r dy[r] x[r]ᵀ
void grouped_backward_weight(const __nv_bfloat16* dy, const __nv_bfloat16* x, float* dweight, const GroupShape& shape,
                             cudaStream_t stream);
void grouped_backward_weight(const float* dy, const float* x, float* dweight, const GroupShape& shape,
                             cudaStream_t stream);

}  // namespace strand::gpu
