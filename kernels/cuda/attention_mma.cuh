#pragma once
// What the attention kernels on tensor cores share (attention_forward.cu, attention_backward.cu).
//
// A warp works on strips of 16 rows. The scores of a strip stay in registers as mma's C; packed to bf16 they are the A
// of the next product, because C and A lie in the lanes in the same way (ptx.cuh). So probabilities and their gradients
// never go through memory.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/mma_tile.cuh"

namespace strand::gpu {

/// Returns U. Where tiles of keys and values are equal and have less than 256 columns, U is A: those kernels are only
/// launched for one width, and need no second one.
template <int WIDTH, int VALUES>
__device__ inline int value_dim(const AttentionShape& shape) {
  return WIDTH == VALUES && WIDTH < most_head_dim ? shape.head_dim : shape.value_dim;
}

/// The window over rows [first, S) of one head, whose S rows of `width` elements lie one after the other. The width is
/// A for q, k and their gradients, and U for v and dv.
__device__ inline Window head_rows(const __nv_bfloat16* tensor, const AttentionShape& shape, int width, int head,
                                   int first) {
  return {.data = tensor + (static_cast<int64_t>(head) * shape.tokens + first) * width,
          .stride = width,
          .rows = shape.tokens - first,
          .columns = width,
          .whole_chunks = shape.whole_chunks};
}

/// The window over rows [first, S) of one head of out or dout, whose rows lie H·U elements apart.
__device__ inline Window token_rows(const __nv_bfloat16* tensor, const AttentionShape& shape, int width, int sequence,
                                    int head, int first) {
  const int stride = shape.heads * width;
  return {.data = tensor + (static_cast<int64_t>(sequence) * shape.tokens + first) * stride + head * width,
          .stride = stride,
          .rows = shape.tokens - first,
          .columns = width,
          .whole_chunks = shape.whole_chunks};
}

/// c[s][j] += A B for each strip s, A = the 16 rows of a tile from a_row + 16 s on, B = the 8·TILES rows of another
/// tile from its start, both WIDTH wide: every row of A times every row of B.
template <int WIDTH, int STRIPS, int TILES>
__device__ inline void multiply_rows(float (&c)[STRIPS][TILES][4], const __nv_bfloat16* a_tile, int a_row,
                                     const __nv_bfloat16* b_tile) {
  constexpr int stride = WIDTH + tile_padding;
#pragma unroll
  for (int k = 0; k < WIDTH; k += 16) {
    unsigned a[STRIPS][4];
#pragma unroll
    for (int s = 0; s < STRIPS; ++s) load_a(a[s], a_tile, stride, a_row + s * 16, k);
#pragma unroll
    for (int pair = 0; pair < TILES / 2; ++pair) {
      unsigned b[2][2];
      load_b(b, b_tile, stride, pair * 16, k);
#pragma unroll
      for (int s = 0; s < STRIPS; ++s) {
        ptx::mma_m16n8k16_bf16(c[s][2 * pair], a[s], b[0], c[s][2 * pair]);
        ptx::mma_m16n8k16_bf16(c[s][2 * pair + 1], a[s], b[1], c[s][2 * pair + 1]);
      }
    }
  }
}

/// The 16 columns [16 k, 16 k + 16) of a strip in registers, as bf16 in the layout of A.
template <int TILES>
__device__ inline void pack_a(unsigned (&a)[4], const float (&c)[TILES][4], int k) {
  a[0] = pack_bf16(c[2 * k][0], c[2 * k][1]);
  a[1] = pack_bf16(c[2 * k][2], c[2 * k][3]);
  a[2] = pack_bf16(c[2 * k + 1][0], c[2 * k + 1][1]);
  a[3] = pack_bf16(c[2 * k + 1][2], c[2 * k + 1][3]);
}

/// c[s][j] += P_s B with the strips P_s in registers, 8·P_TILES columns each, and B the rows of a tile, of which the
/// columns [column, column + 8·TILES) are taken.
template <int WIDTH, int STRIPS, int TILES, int P_TILES>
__device__ inline void multiply_registers(float (&c)[STRIPS][TILES][4], const float (&p)[STRIPS][P_TILES][4],
                                          const __nv_bfloat16* b_tile, int column = 0) {
  constexpr int stride = WIDTH + tile_padding;
#pragma unroll
  for (int step = 0; step < P_TILES / 2; ++step) {
    unsigned a[STRIPS][4];
#pragma unroll
    for (int s = 0; s < STRIPS; ++s) pack_a(a[s], p[s], step);
#pragma unroll
    for (int pair = 0; pair < TILES / 2; ++pair) {
      unsigned b[2][2];
      load_b_transposed(b, b_tile, stride, step * 16, column + pair * 16);
#pragma unroll
      for (int s = 0; s < STRIPS; ++s) {
        ptx::mma_m16n8k16_bf16(c[s][2 * pair], a[s], b[0], c[s][2 * pair]);
        ptx::mma_m16n8k16_bf16(c[s][2 * pair + 1], a[s], b[1], c[s][2 * pair + 1]);
      }
    }
  }
}

/// Writes the rows of a strip, times `factor[half]` for its upper and lower 8 rows, to a window whose row 0 is the
/// strip's row 0.
template <int TILES>
__device__ inline void store_strip(const Window& to, const float (&c)[TILES][4], const float (&factor)[2],
                                   int first_column = 0) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  __nv_bfloat16* const data = const_cast<__nv_bfloat16*>(to.data);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = half * 8 + lane / 4;
    if (row >= to.rows) continue;
#pragma unroll
    for (int j = 0; j < TILES; ++j) {
      const int column = first_column + j * 8 + lane % 4 * 2;
      const float low = c[j][2 * half] * factor[half], high = c[j][2 * half + 1] * factor[half];
      __nv_bfloat16* const at = data + static_cast<int64_t>(row) * to.stride + column;
      if (to.whole_chunks) {
        if (column < to.columns) *reinterpret_cast<unsigned*>(at) = pack_bf16(low, high);
      } else {
        if (column < to.columns) at[0] = __float2bfloat16(low);
        if (column + 1 < to.columns) at[1] = __float2bfloat16(high);
      }
    }
  }
}

}  // namespace strand::gpu
