#pragma once
// Sums and maxima over a warp or a block, in one fixed order.
#include "kernels/cuda/gpu.cuh"

namespace strand::gpu {

constexpr unsigned all_lanes = 0xffffffffu;

/// The sum over the 32 lanes, in every lane.
template <typename T>
__device__ inline T warp_sum(T x) {
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(all_lanes, x, offset);
  return x;
}

/// The largest of the 32 lanes, in every lane.
template <typename T>
__device__ inline T warp_max(T x) {
  for (int offset = 16; offset > 0; offset /= 2) {
    const T other = __shfl_xor_sync(all_lanes, x, offset);
    x = other > x ? other : x;
  }
  return x;
}

/// The sum over the block, in every thread. The block is one-dimensional and a multiple of 32; `scratch` is shared
/// memory of one T a warp. All threads call it; the scratch may be used again after the call.
template <typename T>
__device__ inline T block_sum(T x, T* scratch) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  x = warp_sum(x);
  if (lane == 0) scratch[warp] = x;
  __syncthreads();
  T sum = scratch[0];
  for (int w = 1; w < warps; ++w) sum += scratch[w];
  __syncthreads();
  return sum;
}

/// The largest of the block, in every thread, under the same conditions.
template <typename T>
__device__ inline T block_max(T x, T* scratch) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  x = warp_max(x);
  if (lane == 0) scratch[warp] = x;
  __syncthreads();
  T largest = scratch[0];
  for (int w = 1; w < warps; ++w) largest = scratch[w] > largest ? scratch[w] : largest;
  __syncthreads();
  return largest;
}

}  // namespace strand::gpu
