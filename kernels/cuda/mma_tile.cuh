#pragma once
// Tiles of bf16 matrices in shared memory and the tensor-core fragments that a warp takes from them.
//
// A tile is stored by rows of `stride` elements. The stride is a width plus tile_padding, which makes it an odd number
// of 16-byte chunks: the 8 rows that ldmatrix reads at once then lie in different banks.
#include <initializer_list>

#include "kernels/cuda/ptx.cuh"

namespace strand::gpu {

constexpr int tile_padding = 8;

/// Two floats rounded to bf16 in one register, `low` in the lower half.
__device__ inline unsigned pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  unsigned bits;
  memcpy(&bits, &pair, sizeof bits);
  return bits;
}

/// A window of a row-major matrix in global memory: what lies outside of `rows` and `columns` counts as zero.
struct Window {
  const __nv_bfloat16* data;  ///< element [0, 0] of the window
  int stride;                 ///< elements from row to row
  int rows, columns;          ///< may be larger than the tile, or not positive
  bool whole_chunks;          ///< data is a multiple of 16 bytes; stride and columns are multiples of 8: whole_chunks()
};

/// Whether matrices with these addresses and row widths can be copied in whole chunks of 8 elements.
inline bool whole_chunks(std::initializer_list<const void*> addresses, std::initializer_list<int64_t> widths) {
  bool whole = true;
  for (const void* address : addresses) whole = whole && reinterpret_cast<uintptr_t>(address) % 16 == 0;
  for (int64_t width : widths) whole = whole && width % 8 == 0;
  return whole;
}

/// 8 elements of a window, one by one, for widths that are no multiple of 8.
__device__ inline void copy_chunk_by_elements(__nv_bfloat16* to, const Window& from, int row, int column) {
  Pack<__nv_bfloat16> chunk;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const bool inside = row < from.rows && column + i < from.columns;
    chunk[i] = inside ? from.data[static_cast<int64_t>(row) * from.stride + column + i] : __float2bfloat16(0.0f);
  }
  store16(to, chunk);
}

/// Begins to copy the first ROWS x COLUMNS of a window to a tile. Thread i of THREADS takes every THREADS-th chunk of 8
/// elements, so that neighbours read neighbouring chunks of a row,
/// UNROLL of them at once (every one needs registers for its addresses). The caller commits the group, waits for it and
/// then needs a barrier.
template <int ROWS, int COLUMNS, int THREADS, int UNROLL = 1>
__device__ inline void begin_tile_copy(__nv_bfloat16* tile, const Window& from) {
  constexpr int stride = COLUMNS + tile_padding, chunks = COLUMNS / 8;
  const int thread = static_cast<int>(threadIdx.x);
  if (from.whole_chunks) {
#pragma unroll UNROLL
    for (int i = 0; i < ceil_div(ROWS * chunks, THREADS); ++i) {
      const int chunk = thread + i * THREADS;
      const int row = chunk / chunks, column = chunk % chunks * 8;
      if (ROWS * chunks % THREADS != 0 && row >= ROWS) break;
      const bool inside = row < from.rows && column < from.columns;
      const __nv_bfloat16* const source = from.data + (inside ? static_cast<int64_t>(row) * from.stride + column : 0);
      ptx::cp_async16(tile + row * stride + column, source, inside);
    }
  } else {
    for (int chunk = thread; chunk < ROWS * chunks; chunk += THREADS) {
      const int row = chunk / chunks, column = chunk % chunks * 8;
      copy_chunk_by_elements(tile + row * stride + column, from, row, column);
    }
  }
}

// ---- Fragments (ptx.cuh shows which lane holds what). A is 16 x 16, B two times 16 x 8, side by side. ---------------

/// A[m, k] = tile[row + m][column + k]
__device__ inline void load_a(unsigned (&a)[4], const __nv_bfloat16* tile, int stride, int row, int column) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  ptx::ldmatrix_x4(a, tile + (row + lane % 16) * stride + column + lane / 16 * 8);
}

/// A[m, k] = tile[row + k][column + m]
__device__ inline void load_a_transposed(unsigned (&a)[4], const __nv_bfloat16* tile, int stride, int row, int column) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  ptx::ldmatrix_x4_trans(a, tile + (row + lane % 8 + lane / 16 * 8) * stride + column + lane / 8 % 2 * 8);
}

/// B[k, n] = tile[row + n][column + k], n < 16: b[0] has n < 8
__device__ inline void load_b(unsigned (&b)[2][2], const __nv_bfloat16* tile, int stride, int row, int column) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  unsigned r[4];
  ptx::ldmatrix_x4(r, tile + (row + lane % 8 + lane / 16 * 8) * stride + column + lane / 8 % 2 * 8);
  b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}

/// B[k, n] = tile[row + k][column + n], n < 16: b[0] has n < 8
__device__ inline void load_b_transposed(unsigned (&b)[2][2], const __nv_bfloat16* tile, int stride, int row,
                                         int column) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  unsigned r[4];
  ptx::ldmatrix_x4_trans(r, tile + (row + lane % 16) * stride + column + lane / 16 * 8);
  b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}

}  // namespace strand::gpu
