// SwiGLU forward. It works row by row where rows are independent, and token by token where the Gram matrix of a token's
// rows is wanted, so that the matrix is taken while the rows are in cache.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/expert_rows.cuh"
#include "kernels/cuda/token_rows.cuh"

namespace strand {

using namespace gpu;

namespace {

constexpr int threads = 256, warps = threads / 32;

// A warp owns a row; its lanes walk the columns, N each. Reads gate and up once, writes z once.
template <typename T, int N>
__global__ void __launch_bounds__(threads)
    swiglu_rows_kernel(RowsInUse in_use, const T* __restrict__ gate_up, T* __restrict__ z, int64_t width) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * warps + threadIdx.x / 32;
  const int32_t slot = in_use.slot(row);
  if (slot == RowsInUse::untouched) return;
  const T* from = gate_up + row * 2 * width;
#pragma unroll 2
  for (int64_t column = threadIdx.x % 32 * N; column < width; column += 32 * N) {
    float out[N] = {};
    if (slot != RowsInUse::padding) {
      float gate[N], up[N];
      load(from + column, gate);
      load(from + width + column, up);
#pragma unroll
      for (int j = 0; j < N; ++j) out[j] = gate[j] * sigmoid(gate[j]) * up[j];
    }
    store(z + row * width + column, out);
  }
}

// A block owns a token: it computes the token's rows, N columns of a row a thread, and then their products from what it
// has just written. Reads gate and up once and z from cache, writes z once.
template <typename T, int N>
__global__ void __launch_bounds__(token_threads)
    swiglu_tokens_kernel(const int32_t* __restrict__ row_of_slot, const T* __restrict__ gate_up, T* z, float* gram,
                         int top_k, int64_t width) {
  const int64_t token = blockIdx.x;
  const int32_t* rows = row_of_slot + token * top_k;
  const int groups = static_cast<int>(width) / N;
  for (int i = static_cast<int>(threadIdx.x); i < top_k * groups; i += static_cast<int>(blockDim.x)) {
    const int64_t row = rows[i / groups], column = i % groups * N;
    float gate[N], up[N], out[N];
    load(gate_up + row * 2 * width + column, gate);
    load(gate_up + (row * 2 + 1) * width + column, up);
#pragma unroll
    for (int j = 0; j < N; ++j) out[j] = gate[j] * sigmoid(gate[j]) * up[j];
    store(z + row * width + column, out);
  }
  __syncthreads();
  gram_of_token<N>([&](int64_t k) { return static_cast<const T*>(z + rows[k] * width); }, top_k, width,
                   gram + token * top_k * top_k);
}

}  // namespace

void CudaOps::run(const Swiglu& op) {
  const int64_t rows = op.z.dim(0), width = op.z.dim(1);
  const RowsInUse in_use = rows_in_use(op.map, rows);
  dispatch_act(op.z.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    with_access<8>(width, {&op.gate_up, &op.z}, [&](auto n) {
      constexpr int N = decltype(n)::value;
      if (!op.gram) {
        if (rows == 0) return;
        GPU_LAUNCH((swiglu_rows_kernel<T, N>), blocks(ceil_div<int64_t>(rows, warps)), dim3(threads), 0, stream_,
                   in_use, data<T>(op.gate_up), data<T>(op.z), width);
        return;
      }
      const int64_t tokens = op.gram.dim(0), top_k = op.gram.dim(1);
      if (tokens > 0)
        GPU_LAUNCH((swiglu_tokens_kernel<T, N>), blocks(tokens),
                   dim3(static_cast<unsigned>(threads_for(top_k * width, N, token_threads))), 0, stream_,
                   data<int32_t>(op.map.row_of_slot), data<T>(op.gate_up), data<T>(op.z), data<float>(op.gram),
                   static_cast<int>(top_k), width);
      zero_padding_rows(stream_, in_use, op.z);
    });
  });
}

}  // namespace strand
