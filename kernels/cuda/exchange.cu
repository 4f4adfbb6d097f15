// The maps of expert parallelism: which rows of sampled tokens travel, and where they stand among each other. Both find
// the block of a row by a search in the prefix sums of the counts, which every thread block makes for itself.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/sorting.cuh"

namespace strand {

using namespace gpu;

namespace {

constexpr int threads = 256;

/// Counts of blocks of rows: rows of sampled tokens first, then the others.
struct Blocks {
  const int32_t* counts;  ///< [n, 2]
  int n;
  int32_t *first, *first_packed;  ///< shared memory, [n + 1] each: rows, and rows of sampled tokens, before a block

  /// Fills the prefix sums. All threads call it.
  __device__ void scan() {
    __shared__ int32_t scratch[threads / 32];
    int32_t rows = 0, packed = 0;
    for (int tile = 0; tile < n; tile += threads) {
      const int b = tile + static_cast<int>(threadIdx.x);
      const int32_t sampled = b < n ? counts[2 * b] : 0, all = b < n ? sampled + counts[2 * b + 1] : 0;
      const Scanned of_rows = block_scan(all, scratch), of_packed = block_scan(sampled, scratch);
      if (b < n) {
        first[b] = rows + of_rows.before;
        first_packed[b] = packed + of_packed.before;
      }
      rows += of_rows.total;
      packed += of_packed.total;
    }
    if (threadIdx.x == 0) {
      first[n] = rows;
      first_packed[n] = packed;
    }
    __syncthreads();
  }

  /// The block that holds `row`, which is one of them: the last that begins at it or before.
  __device__ int block_of(int32_t row) const {
    int low = 0, high = n;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (first[middle] <= row) {
        low = middle;
      } else {
        high = middle;
      }
    }
    return low;
  }
  /// Position among the rows of sampled tokens, or −1.
  __device__ int32_t packed(int block, int32_t row) const {
    const int32_t within = row - first[block];
    return within < counts[2 * block] ? first_packed[block] + within : -1;
  }
};

// A thread owns a slot.
__global__ void __launch_bounds__(threads)
    sampled_slots_kernel(const int32_t* __restrict__ counts, int n, const int32_t* __restrict__ row_of_slot,
                         int64_t slots, int32_t* __restrict__ packed_of_slot) {
  GPU_DYN_SHARED(int32_t, shared);
  Blocks blocks{counts, n, shared, shared + n + 1};
  blocks.scan();
  const int64_t slot = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (slot >= slots) return;
  const int32_t row = row_of_slot[slot];
  packed_of_slot[slot] = blocks.packed(blocks.block_of(row), row);
}

// A thread owns an arrival.
__global__ void __launch_bounds__(threads)
    arrival_map_kernel(const int32_t* __restrict__ counts, int n, int local_experts, int32_t arrivals, int32_t sampled,
                       int32_t* __restrict__ experts, int32_t* __restrict__ packed_of_arrival,
                       int32_t* __restrict__ arrival_of_packed) {
  GPU_DYN_SHARED(int32_t, shared);
  Blocks blocks{counts, n, shared, shared + n + 1};
  blocks.scan();
  const int32_t arrival = static_cast<int32_t>(blockIdx.x * threads + threadIdx.x);
  if (arrival >= arrivals || arrival >= blocks.first[n]) return;
  const int block = blocks.block_of(arrival);
  const int32_t packed = blocks.packed(block, arrival);
  experts[arrival] = block % local_experts;
  packed_of_arrival[arrival] = packed;
  if (packed >= 0 && packed < sampled) arrival_of_packed[packed] = arrival;
}

size_t shared_bytes(int64_t n, const char* operation) {
  require_at_most(dynamic_shared_bytes / int64_t{2 * sizeof(int32_t)} - 1, n, "blocks of rows", operation);
  return static_cast<size_t>(2 * (n + 1)) * sizeof(int32_t);
}

}  // namespace

void CudaOps::run(const SampledSlots& op) {
  const int64_t slots = op.row_of_slot.elements(), n = op.counts.dim(0);
  if (slots == 0) return;
  GPU_LAUNCH(sampled_slots_kernel, blocks(ceil_div<int64_t>(slots, threads)), dim3(threads),
             shared_bytes(n, "SampledSlots"), stream_, data<int32_t>(op.counts), static_cast<int>(n),
             data<int32_t>(op.row_of_slot), slots, data<int32_t>(op.packed_of_slot));
}

void CudaOps::run(const ArrivalMap& op) {
  const int64_t arrivals = op.experts.dim(0), n = op.counts.dim(0) * op.counts.dim(1);
  if (arrivals == 0) return;
  GPU_LAUNCH(arrival_map_kernel, blocks(ceil_div<int64_t>(arrivals, threads)), dim3(threads),
             shared_bytes(n, "ArrivalMap"), stream_, data<int32_t>(op.counts), static_cast<int>(n),
             static_cast<int>(op.counts.dim(1)), static_cast<int32_t>(arrivals),
             static_cast<int32_t>(op.arrival_of_packed.dim(0)), data<int32_t>(op.experts),
             data<int32_t>(op.packed_of_arrival), data<int32_t>(op.arrival_of_packed));
}

}  // namespace strand
