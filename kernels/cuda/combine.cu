// Brings expert rows back to tokens, with the Gram matrices that O needs, and the backward pass of that.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/expert_rows.cuh"
#include "kernels/cuda/token_rows.cuh"

namespace strand {

using namespace gpu;

namespace {

template <typename T>
struct CombineArguments {
  const T* rows;
  const int32_t* row_of_slot;
  const float* gates;  ///< nullptr: 1
  float *out, *gram;   ///< gram: nullptr: nobody wants it
  int64_t top_k, width;
  bool accumulate;
};

// A block owns a token, a thread N of its columns: it adds the K rows in the order of k. Then warps take the products
// of pairs of rows, which are in cache by then. Reads K rows of the token once from memory, writes (and, accumulating,
// reads) out once.
template <typename T, int N>
__global__ void __launch_bounds__(token_threads) combine_kernel(CombineArguments<T> p) {
  const int64_t token = blockIdx.x;
  const int32_t* rows = p.row_of_slot + token * p.top_k;
  for (int64_t column = static_cast<int64_t>(threadIdx.x) * N; column < p.width; column += blockDim.x * N) {
    float sum[N] = {};
    if (p.accumulate) load(p.out + token * p.width + column, sum);
#pragma unroll 4
    for (int64_t k = 0; k < p.top_k; ++k) {
      const float gate = p.gates != nullptr ? p.gates[token * p.top_k + k] : 1.0f;
      float row[N];
      load(p.rows + rows[k] * p.width + column, row);
#pragma unroll
      for (int j = 0; j < N; ++j) sum[j] += gate * row[j];
    }
    store(p.out + token * p.width + column, sum);
  }
  if (p.gram != nullptr)
    gram_of_token<N>([&](int64_t k) { return p.rows + rows[k] * p.width; }, p.top_k, p.width,
                     p.gram + token * p.top_k * p.top_k);
}

/// dgates_i = ⟨dout, y_i⟩;  dy_i = gates_i dout + Σ_j factor_ij y_j.
template <typename T>
struct TokenBackward {
  const T *dout, *y;
  T* dy;
  const int32_t* row_of_slot;
  const float *gates, *grams;
  float* dgates;
  int64_t top_k, width;
  double o_scale;
  int64_t token;

  __device__ bool is_here() const { return true; }
  __device__ OrthogonalityPull pull() const { return {o_scale}; }
  __device__ const float* gram() const { return grams + token * top_k * top_k; }

  template <int N>
  __device__ void read(int64_t k, int64_t column, float (&x)[N]) const {
    load(y + row_of_slot[token * top_k + k] * width + column, x);
  }
  template <int N>
  __device__ float finish(int64_t k, int64_t column, const float (&mixed)[N]) const {
    const int64_t slot = token * top_k + k;
    float gradient[N], x[N], out[N], dot = 0;
    load(dout + token * width + column, gradient);
    load(y + row_of_slot[slot] * width + column, x);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      out[j] = gates[slot] * gradient[j] + mixed[j];
      dot += gradient[j] * x[j];
    }
    store(dy + row_of_slot[slot] * width + column, out);
    return dot;
  }
  __device__ void write_dot(int64_t k, float dot) const {
    dgates[token * top_k + k] = dot;
  }
};

}  // namespace

void CudaOps::run(const CombineRows& op) {
  const int64_t tokens = op.out.dim(0), width = op.out.dim(1);
  if (tokens == 0) return;
  dispatch_act(op.rows.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const CombineArguments<T> p{.rows = data<T>(op.rows),
                                .row_of_slot = data<int32_t>(op.map.row_of_slot),
                                .gates = data<float>(op.gates),
                                .out = data<float>(op.out),
                                .gram = data<float>(op.gram),
                                .top_k = op.map.row_of_slot.dim(1),
                                .width = width,
                                .accumulate = op.write == Write::accumulate};
    with_access<8>(width, {&op.rows, &op.out}, [&](auto n) {
      constexpr int N = decltype(n)::value;
      GPU_LAUNCH((combine_kernel<T, N>), blocks(tokens),
                 dim3(static_cast<unsigned>(threads_for(width, N, token_threads))), 0, stream_, p);
    });
  });
}

void CudaOps::run(const CombineBackward& op) {
  const int64_t tokens = op.dout.dim(0), width = op.dout.dim(1), top_k = op.map.row_of_slot.dim(1);
  dispatch_act(op.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const TokenBackward<T> rows{.dout = data<T>(op.dout),
                                .y = data<T>(op.y),
                                .dy = data<T>(op.dy),
                                .row_of_slot = data<int32_t>(op.map.row_of_slot),
                                .gates = data<float>(op.gates),
                                .grams = data<float>(op.gram),
                                .dgates = data<float>(op.dgates),
                                .top_k = top_k,
                                .width = width,
                                .o_scale = op.o_scale,
                                .token = 0};
    mix_rows(stream_, rows, tokens, top_k, width, rows_allow(8, width, {&op.dout, &op.y, &op.dy}), "CombineBackward");
  });
  zero_padding_rows(stream_, rows_in_use(op.map, op.dy.dim(0)), op.dy);
}

}  // namespace strand
