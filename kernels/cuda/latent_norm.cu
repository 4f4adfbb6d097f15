// RMSNorm of some columns of a matrix: the latents of latent attention. Rows are short (512 to 1536 columns in models
// of the field), so a row is read a second time, from the first cache, and nothing is kept in registers.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/dispatch.cuh"
#include "kernels/cuda/partial_sums.h"
#include "kernels/cuda/reduce.cuh"

namespace strand {

using namespace gpu;

namespace {

constexpr int threads = 256, rows_of_block = threads / 32;

/// The columns [first, first + width) of a matrix with `rows` rows of `stride` elements.
struct Columns {
  int64_t rows, stride, first;
  int width;
};

// A warp owns a row. Reads x twice (once from memory), writes y once.
template <typename T>
__global__ void __launch_bounds__(threads)
    latent_norm_kernel(Columns c, const T* __restrict__ x, const float* __restrict__ weight, float eps,
                       T* __restrict__ y, float* __restrict__ rstds) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * rows_of_block + threadIdx.x / 32;
  if (row >= c.rows) return;  // a whole warp
  const T* from = x + row * c.stride + c.first;
  float squares = 0;
  for (int i = lane; i < c.width; i += 32) squares += to_float(from[i]) * to_float(from[i]);
  const float rstd = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(c.width) + eps);
  if (lane == 0) rstds[row] = rstd;
  for (int i = lane; i < c.width; i += 32) y[row * c.width + i] = from_float<T>(to_float(from[i]) * rstd * weight[i]);
}

// A block walks rows with the stride of the grid. Thread i owns columns i, i + 256, …, and what the block's rows add to
// their dweight, in a row of `partial`. Reads dy and x twice (once from memory), writes dx once.
template <typename T>
__global__ void __launch_bounds__(threads)
    latent_norm_backward_kernel(Columns c, const float* __restrict__ dy, const T* __restrict__ x,
                                const float* __restrict__ weight, const float* __restrict__ rstds, T* __restrict__ dx,
                                float* __restrict__ partial) {
  __shared__ float scratch[threads / 32];
  float* const dweight = partial + static_cast<int64_t>(blockIdx.x) * c.width;
  for (int i = static_cast<int>(threadIdx.x); i < c.width; i += threads) dweight[i] = 0;
  for (int64_t row = blockIdx.x; row < c.rows; row += gridDim.x) {
    const float* gradient = dy + row * c.width;
    const int64_t at = row * c.stride + c.first;
    const float rstd = rstds[row];
    float dot = 0;
    for (int i = static_cast<int>(threadIdx.x); i < c.width; i += threads)
      dot += gradient[i] * weight[i] * to_float(x[at + i]) * rstd;
    const float mean = block_sum(dot, scratch) / static_cast<float>(c.width);
    for (int i = static_cast<int>(threadIdx.x); i < c.width; i += threads) {
      const float x_hat = to_float(x[at + i]) * rstd;
      dweight[i] += gradient[i] * x_hat;
      dx[at + i] = from_float<T>(rstd * (gradient[i] * weight[i] - x_hat * mean));
    }
  }
}

Columns columns_of(const Tensor& x, int64_t first, const Tensor& weight) {
  return {x.dim(0), x.dim(1), first, static_cast<int>(weight.dim(0))};
}

}  // namespace

void CudaOps::run(const LatentNorm& op) {
  const Columns c = columns_of(op.x, op.first, op.weight);
  if (c.rows == 0) return;
  dispatch_act(op.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    GPU_LAUNCH(latent_norm_kernel<T>, dim3(static_cast<unsigned>(ceil_div<int64_t>(c.rows, rows_of_block))),
               dim3(threads), 0, stream_, c, data<T>(op.x), data<float>(op.weight), static_cast<float>(op.eps),
               data<T>(op.y), data<float>(op.rstd));
  });
}

void CudaOps::run(const LatentNormBackward& op) {
  const Columns c = columns_of(op.x, op.first, op.weight);
  if (c.rows == 0) return;
  const int64_t grid = std::min(most_norm_blocks, c.rows);
  float* const partial = workspace_of<float>(op, grid * c.width);
  dispatch_act(op.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    GPU_LAUNCH(latent_norm_backward_kernel<T>, dim3(static_cast<unsigned>(grid)), dim3(threads), 0, stream_, c,
               data<float>(op.dy), data<T>(op.x), data<float>(op.weight), data<float>(op.rstd), data<T>(op.dx),
               partial);
  });
  add_column_sums(stream_, partial, grid, c.width, c.width, data<float>(op.dweight));
}

}  // namespace strand
