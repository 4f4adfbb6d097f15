// Products of the row blocks of experts on tensor cores: bf16 in, fp32 sums. They read the offsets of the blocks from
// device memory, so the host needs to know nothing about the routing.
//
// A block owns a tile of 128 x WIDTH outputs of one expert, each of its warps 64 x 64 of it. The inner dimension goes
// by in slices of 32: while the tensor cores work on one slice, cp.async fetches the next three into a ring of four
// stages in shared memory. Each block reads (128 + WIDTH) x inner elements and writes its outputs once; the blocks of
// one row tile follow each other in the grid, so that its rows are read from L2 after the first. A product of 128 x 128
// reads a byte from L2 for every 64 FLOP, which is 5 TB/s at 325 TFLOP/s, and a product of 128 x 256 one for every 85.
#include "kernels/cuda/grouped_gemm.h"
#include "kernels/cuda/inner_axis.h"
#include "kernels/cuda/mma_tile.cuh"
#include "kernels/cuda/row_tiles.cuh"

namespace strand::gpu {

namespace {

using bf16 = __nv_bfloat16;

constexpr int tile_rows = 128, slice = 32, stages = 4;
constexpr int warp_tile = 64, strips = warp_tile / 16, pairs = warp_tile / 16;  // of m16, and of two n8

constexpr int threads_of(int width) {
  return tile_rows / warp_tile * width / warp_tile * 32;
}
constexpr int blocks_at_once(int width) {
  return width == 256 ? 1 : 2;  // what 65536 registers hold
}

/// The slices of an operand, of which a block needs OUTER rows of the product.
template <InnerAxis AXIS, int OUTER, int THREADS>
struct Slices {
  static constexpr int rows = AXIS == InnerAxis::along_rows ? OUTER : slice;
  static constexpr int columns = AXIS == InnerAxis::along_rows ? slice : OUTER;
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
    begin_tile_copy<rows, columns, THREADS, 4>(to, part);
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

template <InnerAxis A, InnerAxis B, int WIDTH>
struct Tile {
  using SlicesA = Slices<A, tile_rows, threads_of(WIDTH)>;
  using SlicesB = Slices<B, WIDTH, threads_of(WIDTH)>;
  static constexpr int stage_elements = SlicesA::elements + SlicesB::elements;
  static constexpr size_t shared_bytes = sizeof(bf16) * stages * stage_elements;
};

/// Computes sums = A B over the whole inner dimension, for the tile of this block.
template <InnerAxis A, InnerAxis B, int WIDTH>
__device__ void multiply(Sums& sums, bf16* shared, const Window& a, const Window& b, int inner) {
  using SlicesA = typename Tile<A, B, WIDTH>::SlicesA;
  using SlicesB = typename Tile<A, B, WIDTH>::SlicesB;
  constexpr int stage_elements = Tile<A, B, WIDTH>::stage_elements;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int m = warp % 2 * warp_tile, n = warp / 2 * warp_tile;
  const int slices = ceil_div(inner, slice);
  const auto fetch = [&](int i) {
    if (i < slices) {
      bf16* const stage = shared + i % stages * stage_elements;
      SlicesA::copy(stage, a, i * slice);
      SlicesB::copy(stage + SlicesA::elements, b, i * slice);
    }
    ptx::cp_async_commit();  // an empty group keeps the count
  };
  for (int i = 0; i < stages - 1; ++i) fetch(i);
  for (int i = 0; i < slices; ++i) {
    ptx::cp_async_wait<stages - 2>();
    __syncthreads();  // slice i is there, and everybody has left the stage of slice i − 1
    fetch(i + stages - 1);
    const bf16* const a_tile = shared + i % stages * stage_elements;
    const bf16* const b_tile = a_tile + SlicesA::elements;
#pragma unroll
    for (int k = 0; k < slice; k += 16) {
      unsigned fragment_a[strips][4], fragment_b[pairs][2][2];
#pragma unroll
      for (int s = 0; s < strips; ++s) SlicesA::load(fragment_a[s], a_tile, m + s * 16, k);
#pragma unroll
      for (int p = 0; p < pairs; ++p) SlicesB::load(fragment_b[p], b_tile, n + p * 16, k);
#pragma unroll
      for (int s = 0; s < strips; ++s)
#pragma unroll
        for (int j = 0; j < 2 * pairs; ++j)
          ptx::mma_m16n8k16_bf16(sums[s][j], fragment_a[s], fragment_b[j / 2][j % 2], sums[s][j]);
    }
  }
  ptx::cp_async_wait<0>();
}

/// Calls visit(row, column, value, next value) for the pairs of outputs of this thread, counted within the tile.
template <typename Visit>
__device__ void for_each_pair(Sums& sums, const Visit& visit) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int s = 0; s < strips; ++s)
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int j = 0; j < 2 * pairs; ++j)
        visit(warp % 2 * warp_tile + s * 16 + half * 8 + lane / 4, warp / 2 * warp_tile + j * 8 + lane % 4 * 2,
              sums[s][j][2 * half], sums[s][j][2 * half + 1]);
}

// y[r, n] = Σ_k x[r, k] W_e[n, k] (B along rows) or Σ_k x[r, k] W_e[k, n] (B across rows). Block (column tile, row
// tile).
template <InnerAxis B, int WIDTH>
__global__ void __launch_bounds__(threads_of(WIDTH), blocks_at_once(WIDTH))
    rows_kernel(const bf16* __restrict__ x, const bf16* __restrict__ weight, const int* __restrict__ offsets,
                bf16* __restrict__ y, int experts, int columns, int inner, bool whole_chunks) {
  const RowTile found = find_row_tile<tile_rows>(offsets, experts, static_cast<int>(blockIdx.y));
  if (found.expert < 0) return;  // all threads alike
  GPU_DYN_SHARED(bf16, shared);
  const int column = static_cast<int>(blockIdx.x) * WIDTH;
  const bf16* const w = weight + static_cast<int64_t>(found.expert) * columns * inner;
  const Window a{x + static_cast<int64_t>(found.first) * inner, inner, found.rows, inner, whole_chunks};
  Window b;
  if constexpr (B == InnerAxis::along_rows)
    b = {w + static_cast<int64_t>(column) * inner, inner, columns - column, inner, whole_chunks};
  else
    b = {w + column, columns, inner, columns - column, whole_chunks};
  Sums sums = {};
  multiply<InnerAxis::along_rows, B, WIDTH>(sums, shared, a, b, inner);
  bf16* const to_tile = y + static_cast<int64_t>(found.first) * columns + column;
  for_each_pair(sums, [&](int m, int n, float value, float next) {
    if (m >= found.rows || column + n >= columns) return;
    bf16* const to = to_tile + static_cast<int64_t>(m) * columns + n;
    if (whole_chunks) {
      *reinterpret_cast<unsigned*>(to) = pack_bf16(value, next);
    } else {
      to[0] = __float2bfloat16(value);
      if (column + n + 1 < columns) to[1] = __float2bfloat16(next);
    }
  });
}

// dW_e[m, n] += Σ_r dy[r, m] x[r, n] over the rows of expert e. Block (column tile, row tile, expert). What dW holds is
// added to the sums by all of a thread's loads together, before the first store: one after the other, each would wait
// for memory.
template <int WIDTH>
__global__ void __launch_bounds__(threads_of(WIDTH), blocks_at_once(WIDTH))
    weight_kernel(const bf16* __restrict__ dy, const bf16* __restrict__ x, const int* __restrict__ offsets,
                  float* __restrict__ dweight, int outputs, int inputs, bool whole_chunks) {
  constexpr InnerAxis across = InnerAxis::across_rows;
  const int first = offsets[blockIdx.z], rows = offsets[blockIdx.z + 1] - first;
  if (rows == 0) return;  // all threads alike
  GPU_DYN_SHARED(bf16, shared);
  const int row = static_cast<int>(blockIdx.y) * tile_rows, column = static_cast<int>(blockIdx.x) * WIDTH;
  const Window a{dy + static_cast<int64_t>(first) * outputs + row, outputs, rows, outputs - row, whole_chunks};
  const Window b{x + static_cast<int64_t>(first) * inputs + column, inputs, rows, inputs - column, whole_chunks};
  Sums sums = {};
  multiply<across, across, WIDTH>(sums, shared, a, b, rows);
  float* const to_tile = dweight + (static_cast<int64_t>(blockIdx.z) * outputs + row) * inputs + column;
  const auto outside = [&](int m, int n) { return row + m >= outputs || column + n >= inputs; };
  for_each_pair(sums, [&](int m, int n, float& value, float& next) {
    if (outside(m, n)) return;
    const float* const from = to_tile + static_cast<int64_t>(m) * inputs + n;
    if (whole_chunks) {
      const float2 pair = *reinterpret_cast<const float2*>(from);
      value += pair.x, next += pair.y;
    } else {
      value += from[0];
      if (column + n + 1 < inputs) next += from[1];
    }
  });
  for_each_pair(sums, [&](int m, int n, float value, float next) {
    if (outside(m, n)) return;
    float* const to = to_tile + static_cast<int64_t>(m) * inputs + n;
    if (whole_chunks) {
      *reinterpret_cast<float2*>(to) = make_float2(value, next);
    } else {
      to[0] = value;
      if (column + n + 1 < inputs) to[1] = next;
    }
  });
}

unsigned tiles(int size, int tile) {
  return static_cast<unsigned>(ceil_div(size, tile));
}

/// Calls body(std::integral_constant<int, WIDTH>) with the width of tile for so many columns: the one that leaves less
/// of the last tile empty, and the wider one when that is the same.
template <typename Body>
void with_tile_width(int columns, const Body& body) {
  if (ceil_div(columns, 256) * 256 <= ceil_div(columns, 128) * 128)
    body(std::integral_constant<int, 256>());
  else
    body(std::integral_constant<int, 128>());
}

template <InnerAxis B>
void launch_rows(const bf16* x, const bf16* weight, bf16* y, const GroupShape& shape, int inner, int columns,
                 cudaStream_t stream) {
  // On an H200, tiles of 256 columns ran at 260 TFLOP/s where these ran at 324 (32 experts, 2048 -> 2048).
  constexpr int width = 128;
  const dim3 grid(tiles(columns, width), static_cast<unsigned>(most_row_tiles(shape.rows, shape.experts, tile_rows)));
  GPU_LAUNCH((rows_kernel<B, width>), grid, dim3(threads_of(width)),
             (Tile<InnerAxis::along_rows, B, width>::shared_bytes), stream, x, weight, shape.offsets, y, shape.experts,
             columns, inner, whole_chunks({x, weight, y}, {columns, inner}));
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
  with_tile_width(shape.inputs, [&](auto tile_width) {
    constexpr int width = decltype(tile_width)::value;
    constexpr InnerAxis across = InnerAxis::across_rows;
    const dim3 grid(tiles(shape.inputs, width), tiles(shape.outputs, tile_rows), static_cast<unsigned>(shape.experts));
    GPU_LAUNCH(weight_kernel<width>, grid, dim3(threads_of(width)), (Tile<across, across, width>::shared_bytes), stream,
               dy, x, shape.offsets, dweight, shape.outputs, shape.inputs,
               whole_chunks({dy, x, dweight}, {shape.inputs, shape.outputs}));
  });
}

}  // namespace strand::gpu
