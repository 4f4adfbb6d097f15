// RMSNorm with the residual addition: bound by memory, so each row is read once and kept in registers.
//
// A row belongs to a warp, or to a block of eight warps where it is longer than a warp's registers hold. Thread i of
// the row's threads owns the groups of N columns i, i + threads, …; the first `kept` groups stay in registers, and what
// is beyond them (rows of more than 8192 columns) is read a second time.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/partial_sums.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/rows.cuh"

namespace strand {

using namespace gpu;

namespace {

constexpr int block_threads = 256, kept = 8;

/// Sums over the threads of a row. Every one of them gets the sums.
template <int row_threads>
__device__ float row_sum(float x, float* scratch) {
  if constexpr (row_threads == 32) return warp_sum(x);
  return block_sum(x, scratch);
}

struct Forward {
  const float *residual, *branch, *weight;
  float *sum, *rstd;
  int64_t rows, width;
  float eps;
};

/// Returns residual + branch at `at`. With a branch it also writes this to sum.
template <int N>
__device__ void add_branch(const Forward& p, int64_t at, float (&x)[N]) {
  load(p.residual + at, x);
  if (p.branch == nullptr) return;
  float branch[N];
  load(p.branch + at, branch);
#pragma unroll
  for (int j = 0; j < N; ++j) x[j] += branch[j];
  store(p.sum + at, x);
}

template <typename T, int N>
__device__ void write_normalized(const Forward& p, T* y, int64_t row, int64_t column, float rstd, const float (&x)[N]) {
  float weight[N], out[N];
  load(p.weight + column, weight);
#pragma unroll
  for (int j = 0; j < N; ++j) out[j] = x[j] * rstd * weight[j];
  store(y + row * p.width + column, out);
}

// Reads residual and branch, writes sum and y: all of them once (up to 8192 columns). The weight comes from cache.
template <typename T, int N, int row_threads>
__global__ void __launch_bounds__(block_threads) add_rms_norm_kernel(Forward p, T* y) {
  __shared__ float scratch[block_threads / 32];
  constexpr int rows_of_block = block_threads / row_threads, step = row_threads * N;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * rows_of_block + threadIdx.x / row_threads;
  if (row_threads == 32 && row >= p.rows) return;  // a whole warp, and there are no barriers
  const int64_t first = static_cast<int64_t>(threadIdx.x % row_threads) * N, begin = row * p.width;

  float x[kept][N] = {}, squares = 0;
#pragma unroll
  for (int i = 0; i < kept; ++i) {
    const int64_t column = first + i * step;
    if (column < p.width) add_branch(p, begin + column, x[i]);
#pragma unroll
    for (int j = 0; j < N; ++j) squares += x[i][j] * x[i][j];  // zeros behind the row
  }
  for (int64_t column = first + kept * step; column < p.width; column += step) {
    float more[N];
    add_branch(p, begin + column, more);
#pragma unroll
    for (int j = 0; j < N; ++j) squares += more[j] * more[j];
  }

  const float rstd = 1.0f / sqrtf(row_sum<row_threads>(squares, scratch) / static_cast<float>(p.width) + p.eps);
  if (first == 0) p.rstd[row] = rstd;
#pragma unroll
  for (int i = 0; i < kept; ++i) {
    const int64_t column = first + i * step;
    if (column < p.width) write_normalized(p, y, row, column, rstd, x[i]);
  }
  const float* source = p.branch != nullptr ? p.sum : p.residual;
  for (int64_t column = first + kept * step; column < p.width; column += step) {
    float more[N];
    load(source + begin + column, more);
    write_normalized(p, y, row, column, rstd, more);
  }
}

struct Backward {
  const float *dy, *x, *weight, *rstd;
  float *dresidual, *partial;  ///< partial [blocks, width]: what a block's rows add to dweight
  int64_t rows, width;
  bool accumulate;
};

/// What is needed twice of one group of columns of a row: a = dy w, x̂, and the part of dweight, dy x̂.
template <int N>
__device__ float read_gradient(const Backward& p, int64_t row, int64_t column, float rstd, float (&a)[N],
                               float (&x_hat)[N], float (&dweight)[N]) {
  float weight[N], dot = 0;
  load(p.dy + row * p.width + column, a);
  load(p.x + row * p.width + column, x_hat);
  load(p.weight + column, weight);
#pragma unroll
  for (int j = 0; j < N; ++j) {
    x_hat[j] *= rstd;
    dweight[j] += a[j] * x_hat[j];
    a[j] *= weight[j];
    dot += a[j] * x_hat[j];
  }
  return dot;
}

template <typename T, int N>
__device__ void write_gradient(const Backward& p, T* copy, int64_t at, float rstd, float mean, const float (&a)[N],
                               const float (&x_hat)[N]) {
  float dx[N] = {};
  if (p.accumulate) load(p.dresidual + at, dx);
#pragma unroll
  for (int j = 0; j < N; ++j) dx[j] += rstd * (a[j] - x_hat[j] * mean);
  store(p.dresidual + at, dx);
  if (copy != nullptr) store(copy + at, dx);
}

// Row groups walk the rows with the stride of the grid and keep their part of dweight in registers; a block adds the
// parts of its warps in order at the end and writes one partial row. Reads dy, x and dresidual, writes dresidual and
// its copy, once each.
template <typename T, int N, int row_threads>
__global__ void __launch_bounds__(block_threads, 1) rms_norm_backward_kernel(Backward p, T* copy) {
  __shared__ float scratch[block_threads / 32];
  __shared__ __align__(16) float parts[row_threads == 32 ? block_threads * N : 1];
  constexpr int rows_of_block = block_threads / row_threads, step = row_threads * N;
  const int64_t first = static_cast<int64_t>(threadIdx.x % row_threads) * N;
  float* partial = p.partial + blockIdx.x * p.width;
  for (int64_t column = kept * step + threadIdx.x; column < p.width; column += block_threads) partial[column] = 0;
  __syncthreads();

  float dweight[kept][N] = {};
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * rows_of_block + threadIdx.x / row_threads; row < p.rows;
       row += static_cast<int64_t>(gridDim.x) * rows_of_block) {
    const float rstd = p.rstd[row];
    float a[kept][N] = {}, x_hat[kept][N] = {}, dot = 0;
#pragma unroll
    for (int i = 0; i < kept; ++i) {
      const int64_t column = first + i * step;
      if (column < p.width) dot += read_gradient(p, row, column, rstd, a[i], x_hat[i], dweight[i]);
    }
    for (int64_t column = first + kept * step; column < p.width; column += step) {
      float more_a[N], more_x[N], more_dweight[N];
      load(partial + column, more_dweight);
      dot += read_gradient(p, row, column, rstd, more_a, more_x, more_dweight);
      store(partial + column, more_dweight);
    }
    const float mean = row_sum<row_threads>(dot, scratch) / static_cast<float>(p.width);
#pragma unroll
    for (int i = 0; i < kept; ++i) {
      const int64_t column = first + i * step;
      if (column < p.width) write_gradient(p, copy, row * p.width + column, rstd, mean, a[i], x_hat[i]);
    }
    for (int64_t column = first + kept * step; column < p.width; column += step) {
      float more_a[N], more_x[N], unused[N] = {};
      read_gradient(p, row, column, rstd, more_a, more_x, unused);
      write_gradient(p, copy, row * p.width + column, rstd, mean, more_a, more_x);
    }
  }

#pragma unroll
  for (int i = 0; i < kept; ++i) {
    if constexpr (row_threads == 32) {  // eight warps hold the same columns
      store(parts + threadIdx.x * N, dweight[i]);
      __syncthreads();
      for (int c = static_cast<int>(threadIdx.x); c < step && i * step + c < p.width; c += block_threads) {
        float sum = 0;
        for (int warp = 0; warp < rows_of_block; ++warp) sum += parts[warp * step + c];
        partial[i * step + c] = sum;
      }
      __syncthreads();
    } else if (first + i * step < p.width) {
      store(partial + first + i * step, dweight[i]);
    }
  }
}

/// body(Count<N>, Count<threads of a row>)
template <typename Body>
void with_row_threads(int64_t width, std::initializer_list<const Tensor*> tensors, const Body& body) {
  with_access<4>(width, tensors, [&](auto count) {
    constexpr int N = decltype(count)::value;
    if (width <= 32 * N * kept) return body(count, Count<32>{});
    body(count, Count<block_threads>{});
  });
}

}  // namespace

void CudaOps::run(const AddRmsNorm& op) {
  const int64_t rows = op.y.dim(0), width = op.y.dim(1);
  if (rows == 0) return;
  const Forward p{data<float>(op.residual),
                  data<float>(op.branch),
                  data<float>(op.weight),
                  data<float>(op.sum),
                  data<float>(op.rstd),
                  rows,
                  width,
                  static_cast<float>(op.eps)};
  with_row_threads(width, {&op.residual, &op.branch, &op.weight, &op.sum, &op.y}, [&](auto count, auto row_threads) {
    constexpr int N = decltype(count)::value, R = decltype(row_threads)::value;
    dispatch_act(op.y.dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      GPU_LAUNCH((add_rms_norm_kernel<T, N, R>), blocks(ceil_div<int64_t>(rows, block_threads / R)),
                 dim3(block_threads), 0, stream_, p, data<T>(op.y));
    });
  });
}

void CudaOps::run(const RmsNormBackward& op) {
  const int64_t rows = op.dy.dim(0), width = op.dy.dim(1);
  if (rows == 0) return;
  const DType act = op.dresidual_act ? op.dresidual_act.dtype : DType::f32;
  with_row_threads(width, {&op.dy, &op.x, &op.weight, &op.dresidual, &op.dresidual_act},
                   [&](auto count, auto row_threads) {
                     constexpr int N = decltype(count)::value, R = decltype(row_threads)::value;
                     const int64_t grid = std::min(most_norm_blocks, ceil_div<int64_t>(rows, block_threads / R));
                     float* partial = workspace_of<float>(op, grid * width);
                     const Backward p{data<float>(op.dy),
                                      data<float>(op.x),
                                      data<float>(op.weight),
                                      data<float>(op.rstd),
                                      data<float>(op.dresidual),
                                      partial,
                                      rows,
                                      width,
                                      op.write == Write::accumulate};
                     dispatch_act(act, [&](auto tag) {
                       using T = typename decltype(tag)::type;
                       GPU_LAUNCH((rms_norm_backward_kernel<T, N, R>), blocks(grid), dim3(block_threads), 0, stream_, p,
                                  data<T>(op.dresidual_act));
                     });
                     add_column_sums(stream_, partial, grid, width, width, data<float>(op.dweight));
                   });
}

}  // namespace strand
