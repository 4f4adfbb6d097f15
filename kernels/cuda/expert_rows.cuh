#pragma once
// Which rows of an expert buffer are in use.
#include "kernels/cuda/rows.cuh"

namespace strand::gpu {

struct RowsInUse {
  static constexpr int32_t padding = -1, untouched = -2;

  const int32_t* slot_of_row;  ///< nullptr: all rows are, and none is padding
  const int32_t* used;         ///< offsets[E]
  int64_t capacity;

  /// The slot of a row (without a map: the row itself), `padding`, or `untouched` for what is behind the last row in
  /// use.
  __device__ int32_t slot(int64_t row) const {
    if (row >= capacity) return untouched;
    if (slot_of_row == nullptr) return static_cast<int32_t>(row);
    return row < *used ? slot_of_row[row] : untouched;
  }
};

inline RowsInUse rows_in_use(const RowMap& map, int64_t capacity) {
  if (!map) return {nullptr, nullptr, capacity};
  return {data<int32_t>(map.slot_of_row), data<int32_t>(map.offsets) + map.offsets.dim(0) - 1, capacity};
}

/// Clears the padding rows of a buffer.
void zero_padding_rows(cudaStream_t stream, const RowsInUse& in_use, const Tensor& rows);

}  // namespace strand::gpu
