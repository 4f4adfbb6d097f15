// Products of the row blocks of experts in fp32 (fma_tile.cuh): a block owns 64 x 64 outputs of one expert and finds
// its rows from the offsets in device memory.
#include "kernels/cuda/fma_tile.cuh"
#include "kernels/cuda/grouped_gemm.h"
#include "kernels/cuda/row_tiles.cuh"

namespace strand::gpu {

namespace {

// y[r, n] = Σ_k x[r, k] W_e[n, k] (B along rows) or Σ_k x[r, k] W_e[k, n] (B across rows). Block (column tile, row
// tile).
template <InnerAxis B>
__global__ void __launch_bounds__(fma_threads, 2)
    rows_kernel(const float* __restrict__ x, const float* __restrict__ weight, const int* __restrict__ offsets,
                float* __restrict__ y, int experts, int columns, int inner) {
  const RowTile rows = find_row_tile<fma_tile>(offsets, experts, static_cast<int>(blockIdx.y));
  if (rows.expert < 0) return;  // all threads alike
  const int column = static_cast<int>(blockIdx.x) * fma_tile;
  const float* const w = weight + static_cast<int64_t>(rows.expert) * columns * inner;
  const FmaOperand<float> a{x + static_cast<int64_t>(rows.first) * inner, inner, rows.rows};
  FmaOperand<float> b;
  if constexpr (B == InnerAxis::along_rows)
    b = {w + static_cast<int64_t>(column) * inner, inner, columns - column};
  else
    b = {w + column, columns, columns - column};
  float sums[4][4] = {};
  fma_multiply<InnerAxis::along_rows, B>(sums, a, b, 0, inner);
  float* const to_tile = y + static_cast<int64_t>(rows.first) * columns + column;
  for_each_output(sums, [&](int m, int n, float value) {
    if (m < rows.rows && column + n < columns) to_tile[static_cast<int64_t>(m) * columns + n] = value;
  });
}

// dW_e[m, n] += Σ_r dy[r, m] x[r, n] over the rows of expert e. Block (column tile, row tile, expert).
__global__ void __launch_bounds__(fma_threads, 2)
    weight_kernel(const float* __restrict__ dy, const float* __restrict__ x, const int* __restrict__ offsets,
                  float* __restrict__ dweight, int outputs, int inputs) {
  const int first = offsets[blockIdx.z], rows = offsets[blockIdx.z + 1] - first;
  if (rows == 0) return;  // all threads alike
  const int row = static_cast<int>(blockIdx.y) * fma_tile, column = static_cast<int>(blockIdx.x) * fma_tile;
  float sums[4][4] = {};
  fma_multiply<InnerAxis::across_rows, InnerAxis::across_rows>(
      sums, FmaOperand<float>{dy + static_cast<int64_t>(first) * outputs + row, outputs, outputs - row},
      FmaOperand<float>{x + static_cast<int64_t>(first) * inputs + column, inputs, inputs - column}, 0, rows);
  float* const to_tile = dweight + (static_cast<int64_t>(blockIdx.z) * outputs + row) * inputs + column;
  for_each_output(sums, [&](int m, int n, float value) {
    if (row + m < outputs && column + n < inputs) to_tile[static_cast<int64_t>(m) * inputs + n] += value;
  });
}

unsigned tiles(int size) {
  return static_cast<unsigned>(ceil_div(size, fma_tile));
}

template <InnerAxis B>
void launch_rows(const float* x, const float* weight, float* y, const GroupShape& shape, int inner, int columns,
                 cudaStream_t stream) {
  const dim3 grid(tiles(columns), static_cast<unsigned>(most_row_tiles(shape.rows, shape.experts, fma_tile)));
  GPU_LAUNCH((rows_kernel<B>), grid, dim3(fma_threads), 0, stream, x, weight, shape.offsets, y, shape.experts, columns,
             inner);
}

}  // namespace

void grouped_forward(const float* x, const float* weight, float* y, const GroupShape& shape, cudaStream_t stream) {
  launch_rows<InnerAxis::along_rows>(x, weight, y, shape, shape.inputs, shape.outputs, stream);
}

void grouped_backward_input(const float* dy, const float* weight, float* dx, const GroupShape& shape,
                            cudaStream_t stream) {
  launch_rows<InnerAxis::across_rows>(dy, weight, dx, shape, shape.outputs, shape.inputs, stream);
}

void grouped_backward_weight(const float* dy, const float* x, float* dweight, const GroupShape& shape,
                             cudaStream_t stream) {
  const dim3 grid(tiles(shape.inputs), tiles(shape.outputs), static_cast<unsigned>(shape.experts));
  GPU_LAUNCH(weight_kernel, grid, dim3(fma_threads), 0, stream, dy, x, shape.offsets, dweight, shape.outputs,
             shape.inputs);
}

}  // namespace strand::gpu
