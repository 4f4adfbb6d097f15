// Operations that only move rows: from tokens to expert rows, and by any index.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/expert_rows.cuh"

namespace strand {

using namespace gpu;

namespace {

constexpr int threads = 256, warps = threads / 32;
constexpr int64_t no_row = -1, untouched = -2;

/// Row r of the expert buffer comes from the token of its slot. Padding rows become zero, and rows behind the last
/// block stay.
struct TokenOfRow {
  RowsInUse rows;
  int64_t top_k;
  __device__ int64_t source(int64_t row) const {
    const int32_t slot = rows.slot(row);
    if (slot < 0) return slot == RowsInUse::untouched ? untouched : no_row;
    return slot / top_k;
  }
};

/// Padding alone is written.
struct ZerosInPadding {
  RowsInUse rows;
  __device__ int64_t source(int64_t row) const { return rows.slot(row) == RowsInUse::padding ? no_row : untouched; }
};

struct ByIndex {
  const int32_t *index, *via;
  __device__ int64_t source(int64_t i) const {
    const int32_t at = index[i];
    return at < 0 ? no_row : via != nullptr ? via[at] : at;
  }
};

// A warp owns a row of `to`; its lanes walk the row, one Unit (up to 16 bytes) each. Reads and writes every row once.
template <typename Source, typename Unit>
__global__ void __launch_bounds__(threads)
    move_rows_kernel(Source source, const Unit* __restrict__ from, Unit* __restrict__ to, int64_t rows, int64_t width) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * warps + threadIdx.x / 32;
  if (row >= rows) return;
  const int64_t origin = source.source(row);
  if (origin == untouched) return;
  const int64_t lane = threadIdx.x % 32;
  if (origin < 0) {
    for (int64_t i = lane; i < width; i += 32) to[row * width + i] = Unit{};
  } else {
#pragma unroll 4
    for (int64_t i = lane; i < width; i += 32) to[row * width + i] = from[origin * width + i];
  }
}

template <typename Source>
void move_rows(cudaStream_t stream, const Source& source, const Tensor& from, const Tensor& to) {
  const int64_t rows = to.dim(0);
  if (rows == 0) return;
  const auto row_bytes = static_cast<size_t>(to.dim(1)) * size_of(to.dtype);
  const auto launch = [&]<typename Unit>(Unit) {
    GPU_LAUNCH((move_rows_kernel<Source, Unit>), blocks(ceil_div<int64_t>(rows, warps)), dim3(threads), 0, stream,
               source, static_cast<const Unit*>(from.data), static_cast<Unit*>(to.data), rows,
               static_cast<int64_t>(row_bytes / sizeof(Unit)));
  };
  const size_t addresses = reinterpret_cast<uintptr_t>(from.data) | reinterpret_cast<uintptr_t>(to.data) | row_bytes;
  if (addresses % sizeof(uint4) == 0) return launch(uint4{});
  if (addresses % sizeof(uint32_t) == 0) return launch(uint32_t{});
  launch(uint16_t{});
}

}  // namespace

void gpu::zero_padding_rows(cudaStream_t stream, const RowsInUse& in_use, const Tensor& rows) {
  move_rows(stream, ZerosInPadding{in_use}, rows, rows);
}

void CudaOps::run(const DispatchRows& op) {
  move_rows(stream_, TokenOfRow{.rows = rows_in_use(op.map, op.rows.dim(0)), .top_k = op.map.row_of_slot.dim(1)}, op.x,
            op.rows);
}

void CudaOps::run(const GatherRows& op) {
  move_rows(stream_, ByIndex{.index = data<int32_t>(op.index), .via = data<int32_t>(op.via)}, op.from, op.to);
}

}  // namespace strand
