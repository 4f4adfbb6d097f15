#pragma once
// Sums over all rows of a matrix, one a column: each block of rows has a partial sum, and these are added in the order
// of the blocks, so the result does not depend on the number of threads.
#include "kernels/cpu/simd.h"
#include "kernels/cpu/token_blocks.h"

namespace strand {

constexpr int64_t norm_rows = block_sizes::norm_rows;  ///< rows behind one partial sum

/// sums[column] += Σ over blocks of partial[block · stride + column]
inline void add_partial_sums(const float* partial, int64_t blocks, int64_t stride, int64_t columns, float* sums) {
  using namespace simd;
  for_blocks(columns, block_sizes::norm_columns, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t c = begin; c < end; c += width) {
      vfloat total = {};
      for (int64_t b = 0; b < blocks; ++b) total += load_up_to(partial + b * stride + c, end - c);
      store_up_to(sums + c, load_up_to(sums + c, end - c) + total, end - c);
    }
  });
}

}  // namespace strand
