#pragma once
// Rows of floats or bf16 as kernels read and write them: N neighbouring elements at a time, widened to float. With
// N = 4 or 8 the row's address and width are multiples of N elements, and an access is one of 8 or 16 bytes (two of 16
// for eight floats); N = 1 takes rows of any width. The host chooses (with_access).
#include <algorithm>
#include <initializer_list>

#include "kernels/cuda/dispatch.cuh"
#include "kernels/cuda/gpu.cuh"
#include "kernels/cuda/workspaces.h"

namespace strand::gpu {

using bfloat16 = __nv_bfloat16;

// In these kernels, what a kernel declares itself takes less than 1 KiB of shared memory.
static_assert(dynamic_shared_bytes == static_cast<int64_t>(default_shared_bytes) - 1024);

template <int N>
__device__ inline void load(const float* from, float (&x)[N]) {
  static_assert(N == 1 || N % 4 == 0);
  if constexpr (N == 1) {
    x[0] = *from;
  } else {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      const Pack<float> pack = load16(from + i);
#pragma unroll
      for (int j = 0; j < 4; ++j) x[i + j] = pack[j];
    }
  }
}

template <int N>
__device__ inline void load(const bfloat16* from, float (&x)[N]) {
  static_assert(N == 1 || N == 4 || N == 8);
  if constexpr (N == 8) {
    const Pack<bfloat16> pack = load16(from);
#pragma unroll
    for (int j = 0; j < 8; ++j) x[j] = to_float(pack[j]);
  } else if constexpr (N == 4) {
    check_alignment(from, 8);
    const uint2 raw = *reinterpret_cast<const uint2*>(from);
    bfloat16 pack[4];
    memcpy(static_cast<void*>(pack), &raw, 8);
#pragma unroll
    for (int j = 0; j < 4; ++j) x[j] = to_float(pack[j]);
  } else {
    x[0] = to_float(*from);
  }
}

template <int N>
__device__ inline void store(float* to, const float (&x)[N]) {
  static_assert(N == 1 || N % 4 == 0);
  if constexpr (N == 1) {
    *to = x[0];
  } else {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      Pack<float> pack;
#pragma unroll
      for (int j = 0; j < 4; ++j) pack[j] = x[i + j];
      store16(to + i, pack);
    }
  }
}

template <int N>
__device__ inline void store(bfloat16* to, const float (&x)[N]) {
  static_assert(N == 1 || N == 4 || N == 8);
  if constexpr (N == 8) {
    Pack<bfloat16> pack;
#pragma unroll
    for (int j = 0; j < 8; ++j) pack[j] = from_float<bfloat16>(x[j]);
    store16(to, pack);
  } else if constexpr (N == 4) {
    bfloat16 pack[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) pack[j] = from_float<bfloat16>(x[j]);
    uint2 raw;
    memcpy(&raw, pack, 8);
    check_alignment(to, 8);
    *reinterpret_cast<uint2*>(to) = raw;
  } else {
    *to = from_float<bfloat16>(x[0]);
  }
}

/// x rounded to what T can hold.
template <typename T>
__device__ inline float round_to(float x) {
  return to_float(from_float<T>(x));
}

__device__ inline float sigmoid(float x) {
  return 1.0f / (1.0f + expf(-x));
}

// ---- host -----------------------------------------------------------------------------------------------------------

template <int n>
struct Count {
  static constexpr int value = n;
};

/// Whether rows of `width` elements, back to back in each of the tensors, may be read `count` elements at a time.
inline bool rows_allow(int count, int64_t width, std::initializer_list<const Tensor*> tensors) {
  return width % count == 0 && std::all_of(tensors.begin(), tensors.end(), [&](const Tensor* tensor) {
           const size_t bytes = std::min<size_t>(16, static_cast<size_t>(count) * size_of(tensor->dtype));
           return !*tensor || reinterpret_cast<uintptr_t>(tensor->data) % bytes == 0;
         });
}

/// Calls body(Count<n>) where rows may be read n elements at a time, else body(Count<1>).
template <int n, typename Body>
void with_access(int64_t width, std::initializer_list<const Tensor*> tensors, const Body& body) {
  if (rows_allow(n, width, tensors)) return body(Count<n>{});
  body(Count<1>{});
}

/// A grid of so many blocks. The caller has made sure that it is at least one.
inline dim3 blocks(int64_t count) {
  return dim3(static_cast<unsigned>(count));
}

/// The threads of a block that walks the columns of a row, `count` at a time. It is a multiple of 32 and at most
/// `most`.
inline int threads_for(int64_t width, int count, int most) {
  return static_cast<int>(std::min<int64_t>(most, ceil_div<int64_t>(ceil_div<int64_t>(width, count), 32) * 32));
}

}  // namespace strand::gpu
