#include "kernels/cpu/widened_gemm.h"

#include <algorithm>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/simd.h"

namespace strand {
namespace {

constexpr int64_t widened_block = block_sizes::widened_block;

/// A part of a matrix that is stored row by row.
struct Block {
  int64_t row, rows, column, columns;
};

int64_t rows_a_task(int64_t columns) {
  return std::max<int64_t>(1, block_sizes::widened_elements / columns);
}

/// to [rows, columns], adjacent, from the block of a matrix whose rows are `stride` elements apart.
void widen(const bf16* from, int64_t stride, Block block, float* to) {
  for_blocks(block.rows, rows_a_task(block.columns), [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t r = begin; r < end; ++r)
      convert(from + (block.row + r) * stride + block.column, to + r * block.columns, block.columns);
  });
}

/// Writes `sum` [rows, columns] to the block of `to`, or adds it.
template <typename Out>
void finish(const float* sum, Write write, Block block, Out* to, int64_t stride) {
  for_blocks(block.rows, rows_a_task(block.columns), [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t r = begin; r < end; ++r) {
      Out* c = to + (block.row + r) * stride + block.column;
      const float* s = sum + r * block.columns;
      simd::for_lanes(block.columns, [&](int64_t i, auto lanes) {
        const simd::vfloat x = simd::load(s + i, lanes);
        simd::store(c + i, write == Write::accumulate ? simd::load(c + i, lanes) + x : x, lanes);
      });
    }
  });
}

}  // namespace

void GemmWorker::multiply_widened(const GemmShape& s, const bf16* a, const bf16* b, void* c, std::byte* workspace) {
  constexpr int64_t block_floats = widened_block * widened_block;
  float* const a32 = reinterpret_cast<float*>(workspace);
  float* const b32 = a32 + block_floats;
  float* const c32 = b32 + block_floats;
  const bool a_transposed = s.layout == GemmLayout::tn, b_transposed = s.layout == GemmLayout::nt;
  const int64_t a_stride = s.lda > 0 ? s.lda : a_transposed ? s.m : s.k;
  const int64_t b_stride = b_transposed ? s.k : s.n;
  for (int64_t m = 0; m < s.m; m += widened_block) {
    const int64_t rows = std::min(widened_block, s.m - m);
    for (int64_t n = 0; n < s.n; n += widened_block) {
      const int64_t columns = std::min(widened_block, s.n - n);
      for (int64_t k = 0; k < s.k; k += widened_block) {
        const int64_t depth = std::min(widened_block, s.k - k);
        widen(a, a_stride, a_transposed ? Block{k, depth, m, rows} : Block{m, rows, k, depth}, a32);
        widen(b, b_stride, b_transposed ? Block{n, columns, k, depth} : Block{k, depth, n, columns}, b32);
        const Write write = k == 0 ? Write::overwrite : Write::accumulate;
        multiply(widened_shape(s, write, rows, columns, depth), a32, b32, c32, workspace + widened_bytes);
      }
      const Block block{m, rows, n, columns};
      if (s.out == DType::bf16)
        finish(c32, s.write, block, static_cast<bf16*>(c), s.n);
      else
        finish(c32, s.write, block, static_cast<float*>(c), s.n);
    }
  }
}

}  // namespace strand
