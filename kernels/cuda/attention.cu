// Attention: the choice of kernels by type, and Δ, which the backward pass computes first.
#include <algorithm>
#include <cmath>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/dispatch.cuh"
#include "kernels/cuda/mma_tile.cuh"
#include "kernels/cuda/reduce.cuh"

namespace strand {

using namespace gpu;

namespace {

constexpr int threads = 256;

// delta[b, h, s] = ⟨dout[b·S + s, h], out[b·S + s, h]⟩. A warp owns one token and head and reads U elements of each.
template <typename T>
__global__ void __launch_bounds__(threads) delta_kernel(const T* __restrict__ out, const T* __restrict__ dout,
                                                        float* __restrict__ delta, AttentionShape shape) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t token_head = (static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x) / 32;
  if (token_head >= static_cast<int64_t>(shape.sequences) * shape.tokens * shape.heads) return;  // a whole warp
  const int64_t token = token_head / shape.heads, head = token_head % shape.heads;
  float sum = 0;
  for (int a = lane; a < shape.value_dim; a += 32) {
    const int64_t at = token_head * shape.value_dim + a;
    sum += to_float(out[at]) * to_float(dout[at]);
  }
  sum = warp_sum(sum);
  const int64_t sequence = token / shape.tokens, position = token % shape.tokens;
  if (lane == 0) delta[(sequence * shape.heads + head) * shape.tokens + position] = sum;
}

AttentionShape shape_of(const char* operation, const HeadLayout& layout, bool whole) {
  require_at_most(most_head_dim, std::max(layout.head_dim, layout.value_width()), "elements of a head", operation);
  return AttentionShape::of(layout, whole);
}

}  // namespace

AttentionShape gpu::AttentionShape::of(const HeadLayout& layout, bool whole) {
  return {.sequences = static_cast<int>(layout.sequences),
          .tokens = static_cast<int>(layout.tokens),
          .heads = static_cast<int>(layout.heads),
          .kv_heads = static_cast<int>(layout.kv_heads),
          .head_dim = static_cast<int>(layout.head_dim),
          .value_dim = static_cast<int>(layout.value_width()),
          .scale = static_cast<float>(layout.score_factor / std::sqrt(static_cast<double>(layout.head_dim))),
          .whole_chunks = whole};
}

void CudaOps::run(const Attention& op) {
  const bool whole =
      whole_chunks({op.q.data, op.k.data, op.v.data, op.out.data}, {op.layout.head_dim, op.layout.value_width()});
  const AttentionShape shape = shape_of("Attention", op.layout, whole);
  dispatch_act(op.q.dtype, [&](auto act) {
    using T = typename decltype(act)::type;
    attention_forward(AttentionForwardTensors<T>{.q = data<T>(op.q),
                                                 .k = data<T>(op.k),
                                                 .v = data<T>(op.v),
                                                 .out = data<T>(op.out),
                                                 .lse = data<float>(op.lse)},
                      shape, stream_);
  });
}

void CudaOps::run(const AttentionBackward& op) {
  const bool whole = whole_chunks({op.q.data, op.k.data, op.v.data, op.dout.data, op.dq.data, op.dk.data, op.dv.data},
                                  {op.layout.head_dim, op.layout.value_width()});
  const AttentionShape shape = shape_of("AttentionBackward", op.layout, whole);
  dispatch_act(op.q.dtype, [&](auto act) {
    using T = typename decltype(act)::type;
    const int64_t warps = op.layout.sequences * op.layout.tokens * op.layout.heads;
    GPU_LAUNCH(delta_kernel<T>, dim3(static_cast<unsigned>(ceil_div<int64_t>(warps * 32, threads))), dim3(threads), 0,
               stream_, data<T>(op.out), data<T>(op.dout), data<float>(op.delta), shape);
    attention_backward(AttentionBackwardTensors<T>{.q = data<T>(op.q),
                                                   .k = data<T>(op.k),
                                                   .v = data<T>(op.v),
                                                   .out = data<T>(op.out),
                                                   .dout = data<T>(op.dout),
                                                   .lse = data<float>(op.lse),
                                                   .delta = data<float>(op.delta),
                                                   .dq = data<T>(op.dq),
                                                   .dk = data<T>(op.dk),
                                                   .dv = data<T>(op.dv)},
                       shape, stream_);
  });
}

}  // namespace strand
