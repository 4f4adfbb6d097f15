// The router's products, in fp32 whatever the activations are (fma_tile.cuh): a block owns a tile of 64 x 64 outputs.
#include <algorithm>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/dispatch.cuh"
#include "kernels/cuda/fma_tile.cuh"
#include "kernels/cuda/partial_sums.h"

namespace strand {

using namespace gpu;

namespace {

// logits[t, e] = Σ_d x[t, d] W[e, d]. Block (tile of experts, tile of tokens).
template <typename T>
__global__ void __launch_bounds__(fma_threads, 2)
    logits_kernel(const T* __restrict__ x, const float* __restrict__ weight, float* __restrict__ logits, int tokens,
                  int experts, int width) {
  const int row = static_cast<int>(blockIdx.y) * fma_tile, column = static_cast<int>(blockIdx.x) * fma_tile;
  float sums[4][4] = {};
  fma_multiply<InnerAxis::along_rows, InnerAxis::along_rows>(
      sums, FmaOperand<T>{x + static_cast<int64_t>(row) * width, width, tokens - row},
      FmaOperand<float>{weight + static_cast<int64_t>(column) * width, width, experts - column}, 0, width);
  for_each_output(sums, [&](int m, int n, float value) {
    if (row + m < tokens && column + n < experts) logits[static_cast<int64_t>(row + m) * experts + column + n] = value;
  });
}

// dx[t, d] += Σ_e dlogits[t, e] W[e, d]. Block (tile of columns, tile of tokens).
__global__ void __launch_bounds__(fma_threads, 2)
    dx_kernel(const float* __restrict__ dlogits, const float* __restrict__ weight, float* __restrict__ dx, int tokens,
              int experts, int width) {
  const int row = static_cast<int>(blockIdx.y) * fma_tile, column = static_cast<int>(blockIdx.x) * fma_tile;
  float sums[4][4] = {};
  fma_multiply<InnerAxis::along_rows, InnerAxis::across_rows>(
      sums, FmaOperand<float>{dlogits + static_cast<int64_t>(row) * experts, experts, tokens - row},
      FmaOperand<float>{weight + column, width, width - column}, 0, experts);
  for_each_output(sums, [&](int m, int n, float value) {
    if (row + m < tokens && column + n < width) dx[static_cast<int64_t>(row + m) * width + column + n] += value;
  });
}

// partial[p, e, d] = Σ_t dlogits[t, e] x[t, d] over the tokens [p · share, + share). Block (tile of columns, tile of
// experts, p): the outputs are few and the tokens many, so that the sum is cut to occupy the GPU.
template <typename T>
__global__ void __launch_bounds__(fma_threads, 2)
    dweight_kernel(const float* __restrict__ dlogits, const T* __restrict__ x, float* __restrict__ partial, int tokens,
                   int experts, int width, int share) {
  const int row = static_cast<int>(blockIdx.y) * fma_tile, column = static_cast<int>(blockIdx.x) * fma_tile;
  const int first = static_cast<int>(blockIdx.z) * share;
  float sums[4][4] = {};
  fma_multiply<InnerAxis::across_rows, InnerAxis::across_rows>(
      sums, FmaOperand<float>{dlogits + row, experts, experts - row}, FmaOperand<T>{x + column, width, width - column},
      first, min(first + share, tokens));
  float* const to = partial + static_cast<int64_t>(blockIdx.z) * experts * width;
  for_each_output(sums, [&](int m, int n, float value) {
    if (row + m < experts && column + n < width) to[static_cast<int64_t>(row + m) * width + column + n] = value;
  });
}

static_assert(fma_tile_outputs == fma_tile);

dim3 tiles(int columns, int rows, int parts = 1) {
  return {static_cast<unsigned>(ceil_div(columns, fma_tile)), static_cast<unsigned>(ceil_div(rows, fma_tile)),
          static_cast<unsigned>(parts)};
}

}  // namespace

void CudaOps::run(const RouterLinear& op) {
  const int tokens = static_cast<int>(op.x.dim(0)), width = static_cast<int>(op.x.dim(1));
  const int experts = static_cast<int>(op.weight.dim(0));
  if (tokens == 0) return;
  dispatch_act(op.x.dtype, [&](auto act) {
    using T = typename decltype(act)::type;
    GPU_LAUNCH(logits_kernel<T>, tiles(experts, tokens), dim3(fma_threads), 0, stream_, data<T>(op.x),
               data<float>(op.weight), data<float>(op.logits), tokens, experts, width);
  });
}

void CudaOps::run(const RouterLinearBackward& op) {
  const int tokens = static_cast<int>(op.x.dim(0)), width = static_cast<int>(op.x.dim(1));
  const int experts = static_cast<int>(op.weight.dim(0));
  if (tokens == 0) return;
  const float* const dlogits = data<float>(op.dlogits);
  GPU_LAUNCH(dx_kernel, tiles(width, tokens), dim3(fma_threads), 0, stream_, dlogits, data<float>(op.weight),
             data<float>(op.dx), tokens, experts, width);
  const int share = static_cast<int>(router_part_tokens(tokens, experts, width, multiprocessors_));
  const int parts = ceil_div(tokens, share);
  const int64_t elements = static_cast<int64_t>(experts) * width;
  float* const partial = workspace_of<float>(op, parts * elements);
  dispatch_act(op.x.dtype, [&](auto act) {
    using T = typename decltype(act)::type;
    GPU_LAUNCH(dweight_kernel<T>, tiles(width, experts, parts), dim3(fma_threads), 0, stream_, dlogits, data<T>(op.x),
               partial, tokens, experts, width, share);
  });
  add_column_sums(stream_, partial, parts, elements, elements, data<float>(op.dweight));
}

}  // namespace strand
