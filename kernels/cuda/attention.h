#pragma once
// Causal grouped-query attention: bf16 on tensor cores (attention_forward.cu, attention_backward.cu), f32 by fused
// multiply-add (attention_fma.cu).
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/ops/attention.h"

namespace strand::gpu {

/// The widest head, of keys or of values, that the kernels have tiles for.
constexpr int most_head_dim = 256;

struct AttentionShape {
  int sequences, tokens;  ///< B, S
  int heads, kv_heads;    ///< H, G
  int head_dim;           ///< A
  int value_dim;          ///< U
  float scale;            ///< f / √A
  bool whole_chunks;      ///< rows of heads begin at multiples of 16 bytes (bf16 only)

  static AttentionShape of(const HeadLayout& layout, bool whole);
  bool one_width() const { return head_dim == value_dim; }
};

/// The tensors of ops/attention.h. lse is in natural logarithms.
template <typename T>
struct AttentionForwardTensors {
  const T *q, *k, *v;
  T* out;
  float* lse;
};

template <typename T>
struct AttentionBackwardTensors {
  const T *q, *k, *v, *out, *dout;
  const float* lse;
  float* delta;
  T *dq, *dk, *dv;
};

void attention_forward(const AttentionForwardTensors<__nv_bfloat16>& tensors, const AttentionShape& shape,
                       cudaStream_t stream);
void attention_forward(const AttentionForwardTensors<float>& tensors, const AttentionShape& shape, cudaStream_t stream);

/// Writes dq, dk and dv. The caller has computed delta (ops/attention.h).
void attention_backward(const AttentionBackwardTensors<__nv_bfloat16>& tensors, const AttentionShape& shape,
                        cudaStream_t stream);
void attention_backward(const AttentionBackwardTensors<float>& tensors, const AttentionShape& shape,
                        cudaStream_t stream);

}  // namespace strand::gpu
