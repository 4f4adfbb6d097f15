#pragma once
// Sums over ranks, taken on one GPU from the parts that have arrived there. They are added in rank order, so that the
// same layout gives the same bits.
#include <cuda_runtime.h>

#include "core/tensor.h"

namespace strand::gpu {

/// sum[i] = Σ_p parts[p, i], p ascending, in the type of `sum`. parts [ranks, n] f32, f64 or bf16; sum [n] f32 or f64.
void enqueue_rank_sum(const Tensor& parts, const Tensor& sum, cudaStream_t stream);

/// to = from, rounded to nearest even. from [n] f32, to [n] bf16.
void enqueue_round(const Tensor& from, const Tensor& to, cudaStream_t stream);

}  // namespace strand::gpu
