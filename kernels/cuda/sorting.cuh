#pragma once
// Stable counting sort of numbered items by bucket, for a few thousand buckets at most: routing sorts slots by expert,
// the gradient of the embedding sorts tokens by the digits of their id.
//
// Three kernels, no floating point, no order of arrival anywhere:
//   1. each block counts the buckets of its `items_of_block` consecutive items;
//   2. one block turns counts [blocks, buckets] into the place of the first item of each (block, bucket);
//   3. each block places its items: a warp walks a run of consecutive items, 32 at a time, and an item's place is what
//      comes before the block's bucket, plus the bucket's items in earlier warps of the block, in earlier items of the
//      warp, and in lower lanes.
//
// A Keys type says what is sorted:
//   __device__ int bucket(int64_t item) const;                    in [0, buckets)
//   __device__ void place(int64_t item, int place) const;         item goes to position `place`
//   __device__ int32_t reserve(int32_t count) const;              places that a bucket of `count` items takes
//   __device__ void begin(int64_t bucket, int32_t first, int32_t count) const;   where a bucket begins, and its items
//   __device__ void end(int32_t places) const;                    places taken by all buckets
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/rows.cuh"

namespace strand::gpu {

/// Counts the items of a block. Counters are integers, so the order in which they are raised does not matter.
template <typename Keys>
__global__ void __launch_bounds__(SortShape::most_warps * 32)
    count_buckets_kernel(Keys keys, int64_t items, int64_t items_of_block, int buckets, int32_t* __restrict__ counts) {
  GPU_DYN_SHARED(int32_t, count);
  for (int b = static_cast<int>(threadIdx.x); b < buckets; b += static_cast<int>(blockDim.x)) count[b] = 0;
  __syncthreads();
  const int64_t begin = blockIdx.x * items_of_block, end = min(items, begin + items_of_block);
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) atomicAdd(&count[keys.bucket(i)], 1);
  __syncthreads();
  for (int b = static_cast<int>(threadIdx.x); b < buckets; b += static_cast<int>(blockDim.x))
    counts[static_cast<int64_t>(blockIdx.x) * buckets + b] = count[b];
}

/// The sum of x over lower threads of the block (at most 1024 threads, a multiple of 32), and over all of them.
/// `scratch` is shared memory of one element a warp. All threads call it.
struct Scanned {
  int32_t before, total;
};
__device__ inline Scanned block_scan(int32_t x, int32_t* scratch) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  int32_t sum = x;  // over this and lower lanes
  for (int offset = 1; offset < 32; offset *= 2) {
    const int32_t lower = __shfl_up_sync(all_lanes, sum, static_cast<unsigned>(offset));
    if (lane >= offset) sum += lower;
  }
  if (lane == 31) scratch[warp] = sum;
  __syncthreads();
  int32_t before = sum - x, total = 0;
  for (int w = 0; w < warps; ++w) {
    if (w < warp) before += scratch[w];
    total += scratch[w];
  }
  __syncthreads();
  return {before, total};
}

/// One block. Thread b owns buckets b, b + 1024, …: it adds their counts over the blocks, and the buckets before them
/// come from a scan over the threads.
template <typename Keys>
__global__ void __launch_bounds__(SortShape::scan_threads)
    scan_buckets_kernel(Keys keys, int32_t* counts, int64_t blocks, int64_t buckets) {
  __shared__ int32_t scratch[SortShape::scan_threads / 32];
  int32_t first = 0;
  for (int64_t tile = 0; tile < buckets; tile += SortShape::scan_threads) {
    const int64_t bucket = tile + threadIdx.x;
    const bool valid = bucket < buckets;
    int32_t count = 0;
    if (valid)
      for (int64_t block = 0; block < blocks; ++block) count += counts[block * buckets + bucket];
    const Scanned scanned = block_scan(valid ? keys.reserve(count) : 0, scratch);
    if (valid) {
      int32_t place = first + scanned.before;
      keys.begin(bucket, place, count);
      for (int64_t block = 0; block < blocks; ++block) {
        const int32_t of_block = counts[block * buckets + bucket];
        counts[block * buckets + bucket] = place;
        place += of_block;
      }
    }
    first += scanned.total;
  }
  if (threadIdx.x == 0) keys.end(first);
}

/// Brings the items of a block to their places. `first` says for each block and bucket where the block's items begin.
/// Each warp first counts its run, so that its items come after those of earlier warps. Then it walks the run again.
template <typename Keys>
__global__ void __launch_bounds__(SortShape::most_warps * 32)
    place_items_kernel(Keys keys, int64_t items, int64_t items_of_block, int buckets,
                       const int32_t* __restrict__ first) {
  GPU_DYN_SHARED(int32_t, next);  // [warps, buckets]
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  for (int i = static_cast<int>(threadIdx.x); i < warps * buckets; i += static_cast<int>(blockDim.x)) next[i] = 0;
  __syncthreads();
  int32_t* mine = next + warp * buckets;
  const int64_t begin = blockIdx.x * items_of_block + warp * SortShape::items_of_warp;
  const int64_t end = min(items, begin + SortShape::items_of_warp);
  for (int64_t i = begin + lane; i < end; i += 32) atomicAdd(&mine[keys.bucket(i)], 1);
  __syncthreads();
  for (int b = static_cast<int>(threadIdx.x); b < buckets; b += static_cast<int>(blockDim.x)) {
    int32_t place = first[static_cast<int64_t>(blockIdx.x) * buckets + b];
    for (int w = 0; w < warps; ++w) {
      const int32_t count = next[w * buckets + b];
      next[w * buckets + b] = place;
      place += count;
    }
  }
  __syncthreads();
  for (int64_t i = begin; i < end; i += 32) {  // the same rounds for all lanes
    const bool valid = i + lane < end;
    const int bucket = valid ? keys.bucket(i + lane) : -1;
    const unsigned peers = __match_any_sync(all_lanes, bucket);
    const int lower = __popc(peers & ((1u << lane) - 1u));
    const int32_t place = valid ? mine[bucket] + lower : 0;
    __syncwarp();
    if (valid && lower == 0) mine[bucket] += __popc(peers);
    __syncwarp();
    if (valid) keys.place(i + lane, place);
  }
}

/// Enqueues the sort. `counts` is device memory of shape.workspace() elements.
template <typename Keys>
void sort_items(cudaStream_t stream, const SortShape& shape, const Keys& keys, int32_t* counts) {
  const dim3 threads(static_cast<unsigned>(shape.warps * 32));
  const int buckets = static_cast<int>(shape.buckets);
  const size_t counters = static_cast<size_t>(shape.buckets) * sizeof(int32_t);
  if (shape.blocks > 0)
    GPU_LAUNCH((count_buckets_kernel<Keys>), blocks(shape.blocks), threads, counters, stream, keys, shape.items,
               shape.items_of_block, buckets, counts);
  GPU_LAUNCH((scan_buckets_kernel<Keys>), dim3(1), dim3(SortShape::scan_threads), 0, stream, keys, counts, shape.blocks,
             shape.buckets);
  if (shape.blocks > 0)
    GPU_LAUNCH((place_items_kernel<Keys>), blocks(shape.blocks), threads, static_cast<size_t>(shape.warps) * counters,
               stream, keys, shape.items, shape.items_of_block, buckets, counts);
}

}  // namespace strand::gpu
