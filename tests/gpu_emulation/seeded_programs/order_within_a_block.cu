// Seeded bugs in barriers and the order of a block's threads.
#include "gpu_emulation/seeded_programs/host_side.cuh"

namespace seeded_programs {

namespace {

// ---- order within a block
__global__ void reads_without_barrier(float* out, const float* in) {
  __shared__ float s[128];
  s[threadIdx.x] = in[threadIdx.x];
  out[threadIdx.x] = s[127 - threadIdx.x];
}
bool missing_barrier() {
  float* out = device_memory(128);
  GPU_LAUNCH(reads_without_barrier, dim3(1), dim3(128), 0, stream(), out, ones(128));
  return all_are(out, 128, 1, stream());
}

__global__ void overwrites_before_read(float* out, const float* in, int rounds) {
  __shared__ float s[128];
  float sum = 0;
  for (int r = 0; r < rounds; ++r) {
    s[threadIdx.x] = in[r * 128 + static_cast<int>(threadIdx.x)];
    __syncthreads();
    sum += s[127 - threadIdx.x];
  }
  out[threadIdx.x] = sum;
}
bool missing_second_barrier() {
  float* out = device_memory(128);
  GPU_LAUNCH(overwrites_before_read, dim3(1), dim3(128), 0, stream(), out, ones(512), 4);
  return all_are(out, 128, 4, stream());
}

__global__ void reads_without_syncwarp(float* out, const float* in) {
  __shared__ float s[32];
  s[threadIdx.x] = in[threadIdx.x];
  out[threadIdx.x] = s[threadIdx.x ^ 1];
}
bool missing_syncwarp() {
  float* out = device_memory(128);
  GPU_LAUNCH(reads_without_syncwarp, dim3(1), dim3(32), 0, stream(), out, ones(32));
  return all_are(out, 32, 1, stream());
}

__global__ void waits_in_both_branches(float* out) {
  if (threadIdx.x < 32) {
    out[threadIdx.x] = 1;
    __syncthreads();
  } else {
    out[threadIdx.x] = 1;
    __syncthreads();
  }
}
bool barrier_in_both_branches() {
  float* out = device_memory(128);
  GPU_LAUNCH(waits_in_both_branches, dim3(1), dim3(64), 0, stream(), out);
  return all_are(out, 64, 1, stream());
}

__global__ void returns_early(float* out, int n) {
  __shared__ float s[64];
  if (static_cast<int>(threadIdx.x) >= n) return;
  s[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x];
}
bool return_before_barrier() {
  float* out = device_memory(128);
  GPU_LAUNCH(returns_early, dim3(1), dim3(64), 0, stream(), out, 48);
  return all_are(out, 48, 1, stream());
}

__global__ void waits_in_part(float* out, int n) {
  __shared__ float s[64];
  s[threadIdx.x] = 1;
  if (static_cast<int>(threadIdx.x) < n) __syncthreads();
  out[threadIdx.x] = s[threadIdx.x ^ 1];
}
bool barrier_for_part_of_the_block() {
  float* out = device_memory(128);
  GPU_LAUNCH(waits_in_part, dim3(1), dim3(64), 0, stream(), out, 32);
  return all_are(out, 64, 1, stream());
}

// ---- warp operations
__global__ void shuffles_from_outside(float* out) {
  if (threadIdx.x >= 16) return;
  float value = 1.0f;
  value += __shfl_xor_sync(0x0000ffffu, value, 16);
  out[threadIdx.x] = value;
}
bool shuffle_of_an_absent_lane() {
  float* out = device_memory(128);
  GPU_LAUNCH(shuffles_from_outside, dim3(1), dim3(32), 0, stream(), out);
  return all_are(out, 16, 2, stream());
}

__global__ void shuffles_in_a_branch(float* out) {
  float value = 1.0f;
  if (threadIdx.x < 16) value += __shfl_xor_sync(0xffffffffu, value, 1);
  out[threadIdx.x] = value;
  __syncwarp();
}
bool full_mask_in_a_branch() {
  float* out = device_memory(128);
  GPU_LAUNCH(shuffles_in_a_branch, dim3(1), dim3(32), 0, stream(), out);
  return all_are(out, 16, 2, stream());
}

__global__ void multiplies_with_half_a_warp(float* out) {
  float d[4] = {};
  const unsigned a[4] = {}, b[2] = {};
  if (threadIdx.x < 16) ptx::mma_m16n8k16_bf16(d, a, b, d);
  out[threadIdx.x] = 1.0f + d[0];
}
bool tensor_core_with_half_a_warp() {
  float* out = device_memory(128);
  GPU_LAUNCH(multiplies_with_half_a_warp, dim3(1), dim3(32), 0, stream(), out);
  return all_are(out, 32, 1, stream());
}

// ---- asynchronous copies
template <bool waits>
__global__ void copies(float* out, const float* in) {
  __shared__ __align__(16) float s[128];
  ptx::cp_async16(s + 4 * threadIdx.x, in + 4 * threadIdx.x, true);
  ptx::cp_async_commit();
  if (waits) ptx::cp_async_wait<0>();
  __syncthreads();
  for (int i = 0; i < 4; ++i)
    out[4 * threadIdx.x + static_cast<unsigned>(i)] = s[4 * threadIdx.x + static_cast<unsigned>(i)];
  if (!waits) ptx::cp_async_wait<0>();
}
template <bool waits>
bool async_copy() {
  float* out = device_memory(128);
  GPU_LAUNCH(copies<waits>, dim3(1), dim3(32), 0, stream(), out, ones(128));
  return all_are(out, 128, 1, stream());
}

}  // namespace

std::vector<Bug> order_within_a_block() {
  return {
      {"control: cp.async with its wait", async_copy<true>, "", "", ""},

      {"__syncthreads is missing", missing_barrier, "wrong", "wrong", "race"},
      {"the second __syncthreads of a loop is missing", missing_second_barrier, "", "", "race"},
      {"__syncwarp is missing", missing_syncwarp, "wrong", "wrong", "race"},
      {"__syncthreads in both branches of an if", barrier_in_both_branches, "divergent-barrier", "divergent-barrier",
       "divergent-barrier"},
      {"return before __syncthreads", return_before_barrier, "barrier-after-exit", "barrier-after-exit",
       "barrier-after-exit"},
      {"__syncthreads for a part of the block", barrier_for_part_of_the_block, "barrier-after-exit",
       "barrier-after-exit", "barrier-after-exit"},

      {"a shuffle reads a lane outside its mask", shuffle_of_an_absent_lane, "shuffle-of-absent-lane",
       "shuffle-of-absent-lane", "shuffle-of-absent-lane"},
      {"a shuffle with the full mask in a branch", full_mask_in_a_branch, "deadlock", "deadlock", "deadlock"},
      {"mma with half a warp", tensor_core_with_half_a_warp, "tensor-core-partial-warp", "tensor-core-partial-warp",
       "tensor-core-partial-warp"},

      {"cp.async without its wait", async_copy<false>, "wrong", "wrong", "cp-async-pending"},
  };
}

}  // namespace seeded_programs
