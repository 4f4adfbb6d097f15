#include <algorithm>

#include "kernels/cuda/dispatch.cuh"
#include "kernels/cuda/rank_sum.h"

namespace strand::gpu {

namespace {
constexpr int threads = 256;
constexpr int64_t most_blocks = 4096;

dim3 blocks_for(int64_t n) {
  return dim3(static_cast<unsigned>(std::min(ceil_div<int64_t>(n, threads), most_blocks)));
}

template <typename Sum>
__device__ inline Sum widen(Sum x) {
  return x;
}
template <typename Sum>
__device__ inline Sum widen(__nv_bfloat16 x) {
  return static_cast<Sum>(to_float(x));
}

template <typename Part, typename Sum>
__global__ void __launch_bounds__(threads)
    rank_sum_kernel(const Part* __restrict__ parts, Sum* __restrict__ sum, int ranks, int64_t n) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * threads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x; i < n; i += step) {
    Sum total = widen<Sum>(parts[i]);
    for (int p = 1; p < ranks; ++p) total += widen<Sum>(parts[p * n + i]);
    sum[i] = total;
  }
}

__global__ void __launch_bounds__(threads)
    round_kernel(const float* __restrict__ from, __nv_bfloat16* __restrict__ to, int64_t n) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * threads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x; i < n; i += step)
    to[i] = from_float<__nv_bfloat16>(from[i]);
}

template <typename Part, typename Sum>
void launch_sum(const Tensor& parts, const Tensor& sum, cudaStream_t stream) {
  const int64_t n = sum.elements();
  GPU_LAUNCH((rank_sum_kernel<Part, Sum>), blocks_for(n), dim3(threads), 0, stream, data<Part>(parts), data<Sum>(sum),
             static_cast<int>(parts.elements() / n), n);
}
}  // namespace

void enqueue_rank_sum(const Tensor& parts, const Tensor& sum, cudaStream_t stream) {
  if (sum.elements() == 0) return;
  if (sum.dtype == DType::f64)
    launch_sum<double, double>(parts, sum, stream);
  else if (parts.dtype == DType::bf16)
    launch_sum<__nv_bfloat16, float>(parts, sum, stream);
  else
    launch_sum<float, float>(parts, sum, stream);
}

void enqueue_round(const Tensor& from, const Tensor& to, cudaStream_t stream) {
  const int64_t n = from.elements();
  if (n == 0) return;
  GPU_LAUNCH(round_kernel, blocks_for(n), dim3(threads), 0, stream, data<float>(from), data<__nv_bfloat16>(to), n);
}

}  // namespace strand::gpu
