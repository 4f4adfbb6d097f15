// The embedding table: gathering its rows, and adding the gradients of equal tokens in a fixed order.
#include <bit>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/sorting.cuh"

namespace strand {

using namespace gpu;

namespace {

constexpr int threads = 256, warps = threads / 32;

// A warp owns a token; its lanes walk the row, N elements each. Reads T rows of the table and writes T rows of x.
template <typename T, int N>
__global__ void __launch_bounds__(threads)
    embedding_kernel(const int32_t* __restrict__ tokens, const T* __restrict__ table, float* __restrict__ x,
                     int64_t count, int64_t width) {
  const int64_t t = static_cast<int64_t>(blockIdx.x) * warps + threadIdx.x / 32;
  if (t >= count) return;
  const T* row = table + tokens[t] * width;
#pragma unroll 4
  for (int64_t column = threadIdx.x % 32 * N; column < width; column += 32 * N) {
    float values[N];
    load(row + column, values);
    store(x + t * width + column, values);
  }
}

// ---- backward: tokens are sorted by id, digit by digit, so that equal ids are neighbours in the order of t; then each
// run of equal ids is added up by one warp or, where it is long, by one block. Tokens come in chunks, so that the
// workspace does not grow with them.

constexpr int long_run = 32;

/// One pass of the sort, by the digit at `shift`.
struct ByDigit {
  const int32_t *ids, *tokens;  ///< tokens: nullptr before the first pass, where item i is token i
  int32_t *sorted_ids, *sorted_tokens;
  int shift;

  __device__ int bucket(int64_t i) const { return ids[i] >> shift & ((1 << embedding_digit_bits) - 1); }
  __device__ void place(int64_t i, int32_t to) const {
    sorted_ids[to] = ids[i];
    sorted_tokens[to] = tokens != nullptr ? tokens[i] : static_cast<int32_t>(i);
  }
  __device__ int32_t reserve(int32_t count) const { return count; }
  __device__ void begin(int64_t, int32_t, int32_t) const {}
  __device__ void end(int32_t) const {}
};

struct Runs {
  const int32_t *ids, *tokens;  ///< sorted by id, equal ids in the order of t
  int64_t count, width;
  const float* dx;
  float* dtable;

  __device__ bool same(int64_t i, int64_t j) const { return j >= 0 && j < count && ids[i] == ids[j]; }
  /// The place behind the last item of the run that holds item i. Steps double until they leave the run, and then
  /// halve.
  __device__ int64_t end_of(int64_t i) const {
    int64_t step = 1, last = i;
    for (; same(i, last + step); step *= 2) last += step;
    for (; step > 0; step /= 2)
      if (same(i, last + step)) last += step;
    return last + 1;
  }
};

// A warp owns a position; where a short run begins, its lanes add the run's rows, N columns each. Rows of dx are read
// once, rows of the table that occur are read and written.
template <int N>
__global__ void __launch_bounds__(threads) add_short_runs_kernel(Runs runs) {
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * warps + threadIdx.x / 32;
  if (begin >= runs.count || runs.same(begin, begin - 1) || runs.same(begin, begin + long_run)) return;
  const int64_t end = runs.end_of(begin);
  float* row = runs.dtable + runs.ids[begin] * runs.width;
  for (int64_t column = threadIdx.x % 32 * N; column < runs.width; column += 32 * N) {
    float sum[N];
    load(row + column, sum);
#pragma unroll 4
    for (int64_t i = begin; i < end; ++i) {
      float dx[N];
      load(runs.dx + runs.tokens[i] * runs.width + column, dx);
#pragma unroll
      for (int j = 0; j < N; ++j) sum[j] += dx[j];
    }
    store(row + column, sum);
  }
}

// A block owns a long run and 32 N columns: the run whose first position that is a multiple of 32 is the block's. Warp
// w adds rows w, w + 8, … of it, and the first warp adds what the warps have, in order.
template <int N>
__global__ void __launch_bounds__(threads) add_long_runs_kernel(Runs runs) {
  __shared__ __align__(16) float sums[warps][32 * N];
  const int64_t here = static_cast<int64_t>(blockIdx.x) * long_run;
  if (runs.same(here, here - long_run)) return;  // for the whole block, as all that follows
  int64_t begin = here;
  while (runs.same(here, begin - 1)) --begin;
  if (!runs.same(begin, begin + long_run)) return;
  const int64_t end = runs.end_of(here);

  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t column = (static_cast<int64_t>(blockIdx.y) * 32 + lane) * N;
  float sum[N] = {};
  if (column < runs.width) {
#pragma unroll 4
    for (int64_t i = begin + warp; i < end; i += warps) {
      float dx[N];
      load(runs.dx + runs.tokens[i] * runs.width + column, dx);
#pragma unroll
      for (int j = 0; j < N; ++j) sum[j] += dx[j];
    }
  }
  store(&sums[warp][lane * N], sum);
  __syncthreads();
  if (warp != 0 || column >= runs.width) return;
  float* row = runs.dtable + runs.ids[here] * runs.width + column;
  load(row, sum);
  for (int w = 0; w < warps; ++w)
#pragma unroll
    for (int j = 0; j < N; ++j) sum[j] += sums[w][lane * N + j];
  store(row, sum);
}

}  // namespace

void CudaOps::run(const Embedding& op) {
  const int64_t count = op.x.dim(0), width = op.x.dim(1);
  if (count == 0) return;
  dispatch_act(op.table.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    with_access<8>(width, {&op.table, &op.x}, [&](auto n) {
      constexpr int N = decltype(n)::value;
      GPU_LAUNCH((embedding_kernel<T, N>), blocks(ceil_div<int64_t>(count, warps)), dim3(threads), 0, stream_,
                 data<int32_t>(op.tokens), data<T>(op.table), data<float>(op.x), count, width);
    });
  });
}

void CudaOps::run(const EmbeddingBackward& op) {
  const int64_t count = op.dx.dim(0), width = op.dx.dim(1);
  if (count == 0) return;
  const int64_t chunk = std::min(count, embedding_chunk_tokens);
  const SortShape largest(chunk, 1 << embedding_digit_bits);
  int32_t* workspace = workspace_of<int32_t>(op, 4 * chunk + largest.workspace());
  int32_t *ids[2] = {workspace, workspace + chunk}, *tokens[2] = {workspace + 2 * chunk, workspace + 3 * chunk};
  const int id_bits = std::bit_width(static_cast<uint64_t>(op.dtable.dim(0) - 1));
  for (int64_t first = 0; first < count; first += chunk) {
    const int64_t here = std::min(chunk, count - first);
    ByDigit keys{};
    keys.ids = data<int32_t>(op.tokens) + first;
    int pass = 0;
    do {
      keys.sorted_ids = ids[pass % 2];
      keys.sorted_tokens = tokens[pass % 2];
      keys.shift = pass * embedding_digit_bits;
      sort_items(stream_, SortShape(here, 1 << embedding_digit_bits), keys, workspace + 4 * chunk);
      keys.ids = keys.sorted_ids;
      keys.tokens = keys.sorted_tokens;
    } while (++pass * embedding_digit_bits < id_bits);
    const Runs runs{.ids = keys.ids,
                    .tokens = keys.tokens,
                    .count = here,
                    .width = width,
                    .dx = data<float>(op.dx) + first * width,
                    .dtable = data<float>(op.dtable)};
    with_access<4>(width, {&op.dx, &op.dtable}, [&](auto n) {
      constexpr int N = decltype(n)::value;
      GPU_LAUNCH((add_short_runs_kernel<N>), blocks(ceil_div<int64_t>(here, warps)), dim3(threads), 0, stream_, runs);
      const dim3 grid(static_cast<unsigned>(ceil_div<int64_t>(here, long_run)),
                      static_cast<unsigned>(ceil_div<int64_t>(width, 32 * N)));
      GPU_LAUNCH((add_long_runs_kernel<N>), grid, dim3(threads), 0, stream_, runs);
    });
  }
}

}  // namespace strand
