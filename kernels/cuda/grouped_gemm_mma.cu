// Products of the row blocks of experts on tensor cores: bf16 in, fp32 sums. They read the offsets of the blocks from
// device memory, so the host needs to know nothing about the routing.
//
// A block of 4 warps owns a tile of 128 x 128 outputs of one expert, each warp 64 x 64 of it. The inner dimension goes
// by in slices of 32: while the tensor cores work on one slice, cp.async fetches the next three into a ring of four
// stages in shared memory. Each block reads (128 + 128) x inner elements and writes its outputs once; the blocks of one
// row tile follow each other in the grid, so that its rows are read from L2 after the first.
#include "kernels/cuda/grouped_gemm.h"
#include "kernels/cuda/inner_axis.h"
#include "kernels/cuda/mma_tile.cuh"
#include "kernels/cuda/row_tiles.cuh"

namespace strand::gpu {

namespace {

using bf16 = __nv_bfloat16;

constexpr int tile = 128, slice = 32, stages = 4, threads = 128;
constexpr int warp_tile = 64, strips = warp_tile / 16, pairs = warp_tile / 16;  // of m16, and of two n8

template <InnerAxis AXIS>
struct Slices {
  static constexpr int rows = AXIS == InnerAxis::along_rows ? tile : slice;
  static constexpr int columns = AXIS == InnerAxis::along_rows ? slice : tile;
  static constexpr int stride = columns + tile_padding;
  static constexpr int elements = rows * stride;

  /// Begins to copy the slice that starts at `inner` of a window over the whole operand of this block.
  static __device__ void copy(bf16* to, const Window& all, int inner) {
    Window part = all;
    if constexpr (AXIS == InnerAxis::along_rows) {
      part.data += inner;
      part.columns -= inner;
    } else {
      part.data += static_cast<int64_t>(inner) * all.stride;
      part.rows -= inner;
    }
    begin_tile_copy<rows, columns, threads, 4>(to, part);
  }
  static __device__ void load(unsigned (&a)[4], const bf16* from, int m, int inner) {
    if constexpr (AXIS == InnerAxis::along_rows)
      load_a(a, from, stride, m, inner);
    else
      load_a_transposed(a, from, stride, inner, m);
  }
  static __device__ void load(unsigned (&b)[2][2], const bf16* from, int n, int inner) {
    if constexpr (AXIS == InnerAxis::along_rows)
      load_b(b, from, stride, n, inner);
    else
      load_b_transposed(b, from, stride, inner, n);
  }
};

/// The outputs of one warp: [m16 strip][n8 tile] in the layout of mma's C.
using Sums = float[strips][2 * pairs][4];

template <InnerAxis A, InnerAxis B>
constexpr size_t shared_bytes = sizeof(bf16) * stages*(Slices<A>::elements + Slices<B>::elements);

/// sums = A B over the whole inner dimension, for this block's tile.
template <InnerAxis A, InnerAxis B>
__device__ void multiply(Sums& sums, bf16* shared, const Window& a, const Window& b, int inner) {
  constexpr int stage_elements = Slices<A>::elements + Slices<B>::elements;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int m = warp % 2 * warp_tile, n = warp / 2 * warp_tile;
  const int slices = ceil_div(inner, slice);
  const auto fetch = [&](int i) {
    if (i < slices) {
      bf16* const stage = shared + i % stages * stage_elements;
      Slices<A>::copy(stage, a, i * slice);
      Slices<B>::copy(stage + Slices<A>::elements, b, i * slice);
    }
    ptx::cp_async_commit();  // an empty group keeps the count
  };
  for (int i = 0; i < stages - 1; ++i) fetch(i);
  for (int i = 0; i < slices; ++i) {
    ptx::cp_async_wait<stages - 2>();
    __syncthreads();  // slice i is there, and everybody has left the stage of slice i − 1
    fetch(i + stages - 1);
    const bf16* const a_tile = shared + i % stages * stage_elements;
    const bf16* const b_tile = a_tile + Slices<A>::elements;
#pragma unroll
    for (int k = 0; k < slice; k += 16) {
      unsigned fragment_a[strips][4], fragment_b[pairs][2][2];
#pragma unroll
      for (int s = 0; s < strips; ++s) Slices<A>::load(fragment_a[s], a_tile, m + s * 16, k);
#pragma unroll
      for (int p = 0; p < pairs; ++p) Slices<B>::load(fragment_b[p], b_tile, n + p * 16, k);
#pragma unroll
      for (int s = 0; s < strips; ++s)
#pragma unroll
        for (int j = 0; j < 2 * pairs; ++j)
          ptx::mma_m16n8k16_bf16(sums[s][j], fragment_a[s], fragment_b[j / 2][j % 2], sums[s][j]);
    }
  }
  ptx::cp_async_wait<0>();
}

/// Calls store(row, column, value, next value) for the pairs of outputs of this thread, counted within the tile.
template <typename Store>
__device__ void for_each_pair(const Sums& sums, const Store& store) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int s = 0; s < strips; ++s)
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int j = 0; j < 2 * pairs; ++j)
        store(warp % 2 * warp_tile + s * 16 + half * 8 + lane / 4, warp / 2 * warp_tile + j * 8 + lane % 4 * 2,
              sums[s][j][2 * half], sums[s][j][2 * half + 1]);
}

// y[r, n] = Σ_k x[r, k] W_e[n, k] (B along rows) or Σ_k x[r, k] W_e[k, n] (B across rows). Block (column tile, row
// tile).
template <InnerAxis B>
__global__ void __launch_bounds__(threads, 2)
    rows_kernel(const bf16* __restrict__ x, const bf16* __restrict__ weight, const int* __restrict__ offsets,
                bf16* __restrict__ y, int experts, int columns, int inner, bool whole_chunks) {
  const RowTile tile_rows = find_row_tile<tile>(offsets, experts, static_cast<int>(blockIdx.y));
  if (tile_rows.expert < 0) return;  // all threads alike
  GPU_DYN_SHARED(bf16, shared);
  const int column = static_cast<int>(blockIdx.x) * tile;
  const bf16* const w = weight + static_cast<int64_t>(tile_rows.expert) * columns * inner;
  const Window a{x + static_cast<int64_t>(tile_rows.first) * inner, inner, tile_rows.rows, inner, whole_chunks};
  Window b;
  if constexpr (B == InnerAxis::along_rows)
    b = {w + static_cast<int64_t>(column) * inner, inner, columns - column, inner, whole_chunks};
  else
    b = {w + column, columns, inner, columns - column, whole_chunks};
  Sums sums = {};
  multiply<InnerAxis::along_rows, B>(sums, shared, a, b, inner);
  bf16* const to_tile = y + static_cast<int64_t>(tile_rows.first) * columns + column;
  for_each_pair(sums, [&](int m, int n, float value, float next) {
    if (m >= tile_rows.rows || column + n >= columns) return;
    bf16* const to = to_tile + static_cast<int64_t>(m) * columns + n;
    if (whole_chunks) {
      *reinterpret_cast<unsigned*>(to) = pack_bf16(value, next);
    } else {
      to[0] = __float2bfloat16(value);
      if (column + n + 1 < columns) to[1] = __float2bfloat16(next);
    }
  });
}

// dW_e[m, n] += Σ_r dy[r, m] x[r, n] over the rows of expert e. Block (column tile, row tile, expert).
__global__ void __launch_bounds__(threads, 2)
    weight_kernel(const bf16* __restrict__ dy, const bf16* __restrict__ x, const int* __restrict__ offsets,
                  float* __restrict__ dweight, int outputs, int inputs, bool whole_chunks) {
  const int first = offsets[blockIdx.z], rows = offsets[blockIdx.z + 1] - first;
  if (rows == 0) return;  // all threads alike
  GPU_DYN_SHARED(bf16, shared);
  const int row = static_cast<int>(blockIdx.y) * tile, column = static_cast<int>(blockIdx.x) * tile;
  const Window a{dy + static_cast<int64_t>(first) * outputs + row, outputs, rows, outputs - row, whole_chunks};
  const Window b{x + static_cast<int64_t>(first) * inputs + column, inputs, rows, inputs - column, whole_chunks};
  Sums sums = {};
  multiply<InnerAxis::across_rows, InnerAxis::across_rows>(sums, shared, a, b, rows);
  float* const to_tile = dweight + (static_cast<int64_t>(blockIdx.z) * outputs + row) * inputs + column;
  for_each_pair(sums, [&](int m, int n, float value, float next) {
    if (row + m >= outputs || column + n >= inputs) return;
    float* const to = to_tile + static_cast<int64_t>(m) * inputs + n;
    if (whole_chunks) {
      float2 pair = *reinterpret_cast<float2*>(to);
      pair.x += value, pair.y += next;
      *reinterpret_cast<float2*>(to) = pair;
    } else {
      to[0] += value;
      if (column + n + 1 < inputs) to[1] += next;
    }
  });
}

unsigned tiles(int size) {
  return static_cast<unsigned>(ceil_div(size, tile));
}

template <InnerAxis B>
void launch_rows(const bf16* x, const bf16* weight, bf16* y, const GroupShape& shape, int inner, int columns,
                 cudaStream_t stream) {
  const dim3 grid(tiles(columns), static_cast<unsigned>(most_row_tiles(shape.rows, shape.experts, tile)));
  GPU_LAUNCH((rows_kernel<B>), grid, dim3(threads), (shared_bytes<InnerAxis::along_rows, B>), stream, x, weight,
             shape.offsets, y, shape.experts, columns, inner, whole_chunks({x, weight, y}, {columns, inner}));
}

}  // namespace

void grouped_forward(const bf16* x, const bf16* weight, bf16* y, const GroupShape& shape, cudaStream_t stream) {
  launch_rows<InnerAxis::along_rows>(x, weight, y, shape, shape.inputs, shape.outputs, stream);
}

void grouped_backward_input(const bf16* dy, const bf16* weight, bf16* dx, const GroupShape& shape,
                            cudaStream_t stream) {
  launch_rows<InnerAxis::across_rows>(dy, weight, dx, shape, shape.outputs, shape.inputs, stream);
}

void grouped_backward_weight(const bf16* dy, const bf16* x, float* dweight, const GroupShape& shape,
                             cudaStream_t stream) {
  const dim3 grid(tiles(shape.inputs), tiles(shape.outputs), static_cast<unsigned>(shape.experts));
  GPU_LAUNCH(weight_kernel, grid, dim3(threads), (shared_bytes<InnerAxis::across_rows, InnerAxis::across_rows>), stream,
             dy, x, shape.offsets, dweight, shape.outputs, shape.inputs,
             whole_chunks({dy, x, dweight}, {shape.inputs, shape.outputs}));
}

}  // namespace strand::gpu
