// Seeded bugs in blocks of one grid.
#include "gpu_emulation/seeded_programs/host_side.cuh"

namespace seeded_programs {

namespace {

// ---- order between blocks
__global__ void writes_own_block(float* out) {
  out[threadIdx.x] = static_cast<float>(blockIdx.x);
}
bool two_blocks_write_one_element() {
  float* out = device_memory(128);
  GPU_LAUNCH(writes_own_block, dim3(2), dim3(32), 0, stream(), out);
  return all_are(out, 32, 1, stream());
}

__global__ void counts_plainly(int* histogram, const int* keys) {
  histogram[keys[blockIdx.x * blockDim.x + threadIdx.x]] += 1;
}
bool histogram_without_atomics() {
  int* histogram = device_memory<int>(4);
  int* keys = device_memory<int>(256);
  cudaMemsetAsync(histogram, 0, 4 * sizeof(int), stream());
  cudaMemsetAsync(keys, 0, 256 * sizeof(int), stream());
  GPU_LAUNCH(counts_plainly, dim3(2), dim3(128), 0, stream(), histogram, keys);
  int counts[4] = {};
  cudaMemcpyAsync(counts, histogram, sizeof counts, cudaMemcpyDeviceToHost, stream());
  cudaStreamSynchronize(stream());
  return counts[0] == 256;
}

template <bool fenced>
__global__ void last_block_sums(float* out, float* parts, int* ticket) {
  __shared__ bool last;
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = static_cast<float>(blockIdx.x + 1);
    if (fenced) __threadfence();
    last = atomicAdd(ticket, 1) == static_cast<int>(gridDim.x) - 1;
    if (fenced) __threadfence();
  }
  __syncthreads();
  if (!last || threadIdx.x != 0) return;
  float sum = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += parts[i];
  *out = sum;
}
template <bool fenced>
bool last_block() {
  float* out = device_memory(1);
  int* ticket = device_memory<int>(1);
  cudaMemsetAsync(ticket, 0, sizeof(int), stream());
  GPU_LAUNCH(last_block_sums<fenced>, dim3(8), dim3(32), 0, stream(), out, device_memory(8), ticket);
  return all_are(out, 1, 36, stream());
}

}  // namespace

std::vector<Bug> order_between_blocks() {
  return {
      {"control: last block with a fence", last_block<true>, "", "", ""},

      {"two blocks write one element", two_blocks_write_one_element, "?wrong", "?wrong", "race"},
      {"a histogram without atomics", histogram_without_atomics, "", "", "race"},
      {"last block without a fence", last_block<false>, "", "", "race"},
  };
}

}  // namespace seeded_programs
