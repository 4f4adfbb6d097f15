#pragma once
// Small matrix products on f32 tiles that live in the first caches: C (M x N) = or += A (M x K) · B (K x N).
//
// The lanes of vectors are columns of B and C, whose rows have 16·n floats; the caller pads them. A is read one element
// at a time and broadcast, so it may have any strides (a transpose costs nothing) and is not packed. A register tile
// has as many rows as fit into the registers. The rows of C are divided evenly into tiles, and every element is summed
// over k in order, so results do not depend on the tiles.
#include <cstdint>

#include "kernels/cpu/simd.h"

namespace strand {

#if defined(__clang__)
#define STRAND_UNROLL _Pragma("unroll")
#else
#define STRAND_UNROLL _Pragma("GCC unroll 16")
#endif

/// What happens to the old values of C: they are replaced, added to, or added to after column c was multiplied by
/// factor[c].
enum class TileUpdate : uint8_t { overwrite, add, scale_and_add };

struct TileA {
  const float* data;
  int64_t row_stride, k_stride;  ///< floats
};
struct TileB {
  const float* data;
  int64_t row_stride;
};
struct TileC {
  float* data;
  int64_t row_stride;
  const float* factor = nullptr;  ///< for scale_and_add
};

namespace tile_gemm_detail {

// As many accumulators as leave registers for one row of B and a broadcast.
#if defined(__AVX512F__)
constexpr int panel_vectors = 4;
constexpr int accumulators = 24;
#elif defined(__AVX__) || defined(__aarch64__)
constexpr int panel_vectors = 1;  // 2 of 16 registers, or 4 of 32
constexpr int accumulators = 6;
#else
constexpr int panel_vectors = 1;  // 4 of 16 registers
constexpr int accumulators = 2;
#endif
constexpr int max_rows(int vectors) {
  return accumulators / vectors < 12 ? accumulators / vectors : 12;
}

template <int rows, int vectors, TileUpdate update>
void tile(TileA a, TileB b, TileC c, int64_t depth) {
  using namespace simd;
  vfloat sum[rows][vectors];
  STRAND_UNROLL for (int r = 0; r < rows; ++r) {
    STRAND_UNROLL for (int v = 0; v < vectors; ++v) {
      if constexpr (update == TileUpdate::overwrite) {
        sum[r][v] = vfloat{};
      } else {
        sum[r][v] = load(c.data + r * c.row_stride + v * width);
        if constexpr (update == TileUpdate::scale_and_add) sum[r][v] *= load(c.factor + v * width);
      }
    }
  }
  const float* a_k = a.data;
  const float* b_k = b.data;
  for (int64_t k = 0; k < depth; ++k, a_k += a.k_stride, b_k += b.row_stride) {
    vfloat b_row[vectors];
    STRAND_UNROLL for (int v = 0; v < vectors; ++v) b_row[v] = load(b_k + v * width);
    STRAND_UNROLL for (int r = 0; r < rows; ++r) {
      const float x = a_k[r * a.row_stride];
      STRAND_UNROLL for (int v = 0; v < vectors; ++v) sum[r][v] += x * b_row[v];
    }
  }
  STRAND_UNROLL for (int r = 0; r < rows; ++r) {
    STRAND_UNROLL for (int v = 0; v < vectors; ++v) store(c.data + r * c.row_stride + v * width, sum[r][v]);
  }
}

using Tile = void (*)(TileA, TileB, TileC, int64_t);

/// The tile of `rows` rows, found by counting down from the largest.
template <int rows, int vectors, TileUpdate update>
Tile find_tile(int64_t wanted) {
  if constexpr (rows > 1) {
    if (wanted < rows) return find_tile<rows - 1, vectors, update>(wanted);
  }
  return tile<rows, vectors, update>;
}

template <int vectors, TileUpdate update>
void panel(TileA a, TileB b, TileC c, int64_t m, int64_t depth) {
  constexpr int most = max_rows(vectors);
  const int64_t strips = (m + most - 1) / most;
  if (strips == 0) return;
  const int64_t rows = m / strips, longer = m % strips;
  const Tile tall = find_tile<most, vectors, update>(rows + (longer > 0));
  const Tile low = find_tile<most, vectors, update>(rows);
  for (int64_t s = 0; s < strips; ++s) {
    const int64_t height = rows + (s < longer);
    (s < longer ? tall : low)(a, b, c, depth);
    a.data += height * a.row_stride;
    c.data += height * c.row_stride;
  }
}

}  // namespace tile_gemm_detail

/// C (m rows x 16·vectors columns) from A (m x depth) and B (depth x 16·vectors).
template <TileUpdate update>
void tile_gemm(TileA a, TileB b, TileC c, int64_t m, int64_t vectors, int64_t depth) {
  using namespace tile_gemm_detail;
  while (vectors > 0) {
    const int64_t now = vectors < panel_vectors ? vectors : panel_vectors;
    if (now == 1) panel<1, update>(a, b, c, m, depth);
    if constexpr (panel_vectors > 2) {
      if (now == 2) panel<2, update>(a, b, c, m, depth);
      if (now == 3) panel<3, update>(a, b, c, m, depth);
      if (now == 4) panel<4, update>(a, b, c, m, depth);
    }
    b.data += now * simd::width;
    c.data += now * simd::width;
    if (update == TileUpdate::scale_and_add) c.factor += now * simd::width;
    vectors -= now;
  }
}

}  // namespace strand
