#include "kernels/cuda/gpu.cuh"
#include "kernels/cuda/partial_sums.h"
#include "kernels/cuda/reduce.cuh"

namespace strand::gpu {

namespace {

constexpr int tile_columns = 32, tile_rows = 16;

// A block owns 32 columns. Thread (c, r) adds rows r, r + 16, … of its column; then the first row of threads adds these
// 16 sums in order. Reads the partial sums once, 128 bytes a warp.
__global__ void __launch_bounds__(tile_columns* tile_rows)
    column_sums_kernel(const float* __restrict__ partial, int64_t rows, int64_t stride, int64_t columns, float* out) {
  __shared__ float sums[tile_rows][tile_columns];
  const int64_t column = static_cast<int64_t>(blockIdx.x) * tile_columns + threadIdx.x;
  float sum = 0;
  if (column < columns)
    for (int64_t row = threadIdx.y; row < rows; row += tile_rows) sum += partial[row * stride + column];
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  for (int r = 1; r < tile_rows; ++r) sum += sums[r][threadIdx.x];
  out[column] += sum;
}

constexpr int scalar_threads = 256;

// One block. Thread i adds the partial sums of blocks i, i + 256, …
__global__ void __launch_bounds__(scalar_threads)
    scalar_sums_kernel(const double* __restrict__ partial, int64_t blocks, ScalarSums sums) {
  __shared__ double scratch[scalar_threads / 32];
  for (int i = 0; i < sums.count; ++i) {
    double sum = 0;
    for (int64_t block = threadIdx.x; block < blocks; block += scalar_threads) sum += partial[block * sums.count + i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0 && sums.out[i] != nullptr) *sums.out[i] += sums.factor[i] * sum;
  }
}

}  // namespace

void add_column_sums(cudaStream_t stream, const float* partial, int64_t rows, int64_t stride, int64_t columns,
                     float* out) {
  GPU_LAUNCH(column_sums_kernel, dim3(static_cast<unsigned>(ceil_div<int64_t>(columns, tile_columns))),
             dim3(tile_columns, tile_rows), 0, stream, partial, rows, stride, columns, out);
}

void add_scalar_sums(cudaStream_t stream, const double* partial, int64_t blocks, const ScalarSums& sums) {
  GPU_LAUNCH(scalar_sums_kernel, dim3(1), dim3(scalar_threads), 0, stream, partial, blocks, sums);
}

}  // namespace strand::gpu
