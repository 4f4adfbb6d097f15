#pragma once
// A warp and one row of a router: E logits, scores or probabilities in shared memory, of which lane i owns the elements
// i, i + 32, …. Whatever the number of experts, one code; between two phases in which lanes touch each other's elements
// stands __syncwarp().
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/rows.cuh"

namespace strand::gpu {

/// The number of warps of a block in which each warp has `arrays` rows of `experts` floats in shared memory.
struct RouterShape {
  static constexpr int most_warps = 4;

  int warps;
  size_t shared_bytes;
  dim3 grid, block;

  RouterShape(int64_t rows, int64_t experts, int arrays, const char* operation)
      : RouterShape(rows, dynamic_shared_bytes / (experts * arrays * 4), experts * arrays * 4, experts, arrays,
                    operation) {}

 private:
  RouterShape(int64_t rows, int64_t warps_that_fit, int64_t bytes, int64_t experts, int arrays, const char* operation)
      : warps(static_cast<int>(std::clamp<int64_t>(warps_that_fit, 1, most_warps))),
        shared_bytes(static_cast<size_t>(warps * bytes)),
        grid(blocks(ceil_div<int64_t>(rows, warps))),
        block(static_cast<unsigned>(warps * 32)) {
    require_at_most(dynamic_shared_bytes / (arrays * 4), experts, "experts", operation);
  }
};

/// The row of the calling warp, and the warp's share of the block's shared memory.
struct WarpRow {
  int lane;
  int64_t row;
  float* memory;

  __device__ WarpRow(float* shared, int64_t floats_of_warp)
      : lane(static_cast<int>(threadIdx.x) % 32),
        row((static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32),
        memory(shared + threadIdx.x / 32 * floats_of_warp) {}
};

/// Calls body(e) for the elements that the lane owns.
template <typename Body>
__device__ void for_owned(int lane, int64_t experts, const Body& body) {
  for (int64_t e = lane; e < experts; e += 32) body(e);
}

/// The maximum of x(e) over the row, in every lane.
template <typename Value>
__device__ float row_max(int lane, int64_t experts, const Value& x) {
  float largest = -INFINITY;
  for_owned(lane, experts, [&](int64_t e) { largest = fmaxf(largest, x(e)); });
  return warp_max(largest);
}

/// The sum of x(e) over the row, in every lane.
template <typename Value>
__device__ float row_sum(int lane, int64_t experts, const Value& x) {
  float sum = 0;
  for_owned(lane, experts, [&](int64_t e) { sum += x(e); });
  return warp_sum(sum);
}

/// A number in the order of the floats: a < b exactly when ordered(a) < ordered(b); −0 and 0 are equal, and 0 is free
/// to mean "taken", as only a NaN with its sign and all other bits set would be it.
__device__ inline unsigned ordered(float x) {
  const unsigned bits = __float_as_uint(x + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/// The K largest of the row `values` (in shared memory; destroyed) by descending value, ties to the lower index:
/// choose(k, e) is called by all lanes for k = 0, …, K − 1. K rounds, each over the row and the warp.
template <typename Choose>
__device__ void choose_largest(int lane, int64_t experts, int64_t count, float* values, const Choose& choose) {
  unsigned* keys = reinterpret_cast<unsigned*>(values);
  for_owned(lane, experts, [&](int64_t e) { keys[e] = ordered(values[e]); });
  for (int64_t k = 0; k < count; ++k) {
    unsigned best = 0;
    int64_t at = experts - 1;
    for_owned(lane, experts, [&](int64_t e) {
      if (keys[e] > best) {
        best = keys[e];
        at = e;
      }
    });
    const unsigned largest = __reduce_max_sync(all_lanes, best);
    const unsigned lowest = ~__reduce_max_sync(all_lanes, best == largest ? ~static_cast<unsigned>(at) : 0u);
    const auto chosen = static_cast<int64_t>(lowest);
    if (chosen % 32 == lane) keys[chosen] = 0;
    choose(k, chosen);
  }
}

}  // namespace strand::gpu
