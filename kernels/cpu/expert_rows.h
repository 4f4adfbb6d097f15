#pragma once
// Functions that the operations on expert rows share: the rows of a token, their Gram matrix, and padding rows.
#include "kernels/cpu/simd.h"
#include "kernels/cpu/token_blocks.h"
#include "kernels/ops/experts.h"

namespace strand {

/// Tokens (or rows) that a thread takes at a time where nothing is summed over tokens.
constexpr int64_t row_block = block_sizes::rows;

/// The rows of one token's K slots in a buffer of rows of `width`.
template <typename T>
struct TokenRows {
  T* base;
  const int32_t* row_of_slot;  ///< [K] of this token
  int64_t width;
  T* operator[](int64_t k) const { return base + row_of_slot[k] * width; }
};

/// gram_ij = ⟨row_i, row_j⟩, symmetric to the bit.
template <typename T>
void gram_of_rows(const TokenRows<T>& rows, int64_t top_k, float* gram) {
  for (int64_t i = 0; i < top_k; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      gram[i * top_k + j] = gram[j * top_k + i] = simd::dot(rows[i], rows[j], rows.width);
    }
  }
}

/// Zeroes the rows of `base` that no slot owns, up to offsets[E].
template <typename T>
void zero_padding_rows(const RowMap& map, T* base, int64_t width) {
  const int64_t rows = map.offsets.as<int32_t>()[map.offsets.elements() - 1];
  const int32_t* slot_of_row = map.slot_of_row.as<int32_t>();
  for_blocks(rows, block_sizes::padding_rows, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t row = begin; row < end; ++row) {
      if (slot_of_row[row] < 0) std::fill_n(base + row * width, width, T{});
    }
  });
}

}  // namespace strand
