#pragma once
// A tile of a matrix product in fp32: fused multiply-adds on the ordinary cores, for f32 activations and for the
// router.
//
// A block of 256 threads owns 64 x 64 outputs, a thread 4 x 4 of them: rows 4 (thread / 16) + i, columns
// 4 (thread % 16) + j. The inner dimension goes by in slices of 16, which lie in shared memory as [inner][row]; the
// next slice is read into registers while this one is multiplied.
#include "kernels/cuda/gpu.cuh"
#include "kernels/cuda/inner_axis.h"

namespace strand::gpu {

constexpr int fma_tile = 64, fma_slice = 16, fma_threads = 256;
constexpr int fma_stride = fma_tile + 4;  // rows stay multiples of 16 bytes and begin in different banks

/// One operand of a block. Outside of its rows and terms it counts as zero.
template <typename T>
struct FmaOperand {
  const T* data;  ///< element [outer 0, inner 0]
  int stride;     ///< elements from row to row of memory
  int outer;      ///< rows there are, of the product; may be more than a tile
};

/// A slice of an operand on its way to shared memory. Each thread carries 4 elements.
template <InnerAxis AXIS, typename T>
struct FmaSlice {
  static constexpr int count = fma_tile * fma_slice / fma_threads;
  float values[count];

  static __device__ int outer_of(int i) { return AXIS == InnerAxis::along_rows ? i / fma_slice : i % fma_tile; }
  static __device__ int inner_of(int i) { return AXIS == InnerAxis::along_rows ? i % fma_slice : i / fma_tile; }
  __device__ void read(const FmaOperand<T>& from, int inner_begin, int inner_end) {
#pragma unroll
    for (int n = 0; n < count; ++n) {
      const int i = static_cast<int>(threadIdx.x) + n * fma_threads;
      const int outer = outer_of(i), inner = inner_begin + inner_of(i);
      const bool inside = outer < from.outer && inner < inner_end;
      const int row = AXIS == InnerAxis::along_rows ? outer : inner,
                column = AXIS == InnerAxis::along_rows ? inner : outer;
      values[n] = inside ? to_float(from.data[static_cast<int64_t>(row) * from.stride + column]) : 0.0f;
    }
  }
  __device__ void write(float (*to)[fma_stride]) const {
#pragma unroll
    for (int n = 0; n < count; ++n) {
      const int i = static_cast<int>(threadIdx.x) + n * fma_threads;
      to[inner_of(i)][outer_of(i)] = values[n];
    }
  }
};

/// sums[i][j] = Σ_k A[4 (thread / 16) + i, k] B[k, 4 (thread % 16) + j] over k in [begin, end), in the order of k.
/// All 256 threads call it.
template <InnerAxis A, InnerAxis B, typename TypeA, typename TypeB>
__device__ inline void fma_multiply(float (&sums)[4][4], const FmaOperand<TypeA>& a, const FmaOperand<TypeB>& b,
                                    int begin, int end) {
  __shared__ __align__(16) float a_slice[fma_slice][fma_stride];
  __shared__ __align__(16) float b_slice[fma_slice][fma_stride];
  const int row = static_cast<int>(threadIdx.x) / 16 * 4, column = static_cast<int>(threadIdx.x) % 16 * 4;
  FmaSlice<A, TypeA> next_a;
  FmaSlice<B, TypeB> next_b;
  next_a.read(a, begin, end);
  next_b.read(b, begin, end);
  for (int k = begin; k < end; k += fma_slice) {
    __syncthreads();  // everybody has left the slice before
    next_a.write(a_slice);
    next_b.write(b_slice);
    __syncthreads();
    next_a.read(a, k + fma_slice, end);
    next_b.read(b, k + fma_slice, end);
#pragma unroll
    for (int inner = 0; inner < fma_slice; ++inner) {
      const Pack<float> x = load16(&a_slice[inner][row]), y = load16(&b_slice[inner][column]);
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] += x[i] * y[j];
    }
  }
}

/// Calls store(row, column, value) for the outputs of this thread, counted within the tile.
template <typename Store>
__device__ inline void for_each_output(const float (&sums)[4][4], const Store& store) {
  const int row = static_cast<int>(threadIdx.x) / 16 * 4, column = static_cast<int>(threadIdx.x) % 16 * 4;
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) store(row + i, column + j, sums[i][j]);
}

}  // namespace strand::gpu
