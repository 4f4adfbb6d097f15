// Heads of latent attention from its projections, and back; and what the latent cache reads. Every kernel is bound by
// memory: a block owns a token, neighbouring threads take neighbouring elements, and the partner of an element in the
// rotation is in the first cache.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/dispatch.cuh"

namespace strand {

using namespace gpu;

namespace {

constexpr int threads = 256;

struct Layout {
  int tokens, heads;                      ///< S, H
  int nope_dim, rope_dim, value_dim;      ///< n, p, v
  int latent;                             ///< c
  int64_t queries_stride, shared_stride;  ///< elements of a row of the queries, and of the matrix with the shared key

  __device__ int key_dim() const { return nope_dim + rope_dim; }
  __device__ int expanded() const { return nope_dim + value_dim; }
  __device__ int cached() const { return latent + rope_dim; }
  /// Row of a token and head in [B, H, S].
  __device__ int64_t head_row(int64_t token, int head) const {
    return (token / tokens * heads + head) * tokens + token % tokens;
  }
  /// Where the shared key of a token begins: its last p columns.
  __device__ int64_t shared_key(int64_t token) const { return (token + 1) * shared_stride - rope_dim; }
};

Layout layout_of(const LatentLayout& l, const Tensor& queries, const Tensor& shared_key) {
  return {static_cast<int>(l.tokens),    static_cast<int>(l.heads),
          static_cast<int>(l.nope_dim),  static_cast<int>(l.rope_dim),
          static_cast<int>(l.value_dim), static_cast<int>(l.latent),
          queries ? queries.dim(1) : 0,  shared_key.dim(1)};
}

/// Element i of a rotated vector of p elements; `sign` is 1, or −1 to turn back. x(j) gives element j.
template <typename Read>
__device__ inline float turned(const Layout& l, const float* __restrict__ rotary, int64_t token, int i, float sign,
                               const Read& x) {
  const int half = l.rope_dim / 2, pair = i % half;
  const float* angles = rotary + token % l.tokens * l.rope_dim;
  const float cosine = angles[pair], sine = sign * angles[half + pair];
  return i < half ? x(i) * cosine - x(i + half) * sine : x(i) * cosine + x(i - half) * sine;
}

/// The same of p elements in memory.
template <typename T>
__device__ inline float turned(const Layout& l, const float* __restrict__ rotary, int64_t token, int i, float sign,
                               const T* from) {
  return turned(l, rotary, token, i, sign, [from](int j) { return to_float(from[j]); });
}

template <typename T>
__global__ void __launch_bounds__(threads)
    split_latent_kernel(Layout l, const T* __restrict__ queries, const T* __restrict__ keys_values,
                        const T* __restrict__ shared_key, const float* __restrict__ rotary, T* __restrict__ q,
                        T* __restrict__ k, T* __restrict__ v) {
  const int64_t token = blockIdx.x;
  const T* const query_row = queries + token * l.queries_stride;
  const T* const key_row = keys_values + token * l.heads * l.expanded();
  for (int i = static_cast<int>(threadIdx.x); i < l.heads * l.key_dim(); i += threads) {
    const int head = i / l.key_dim(), column = i % l.key_dim(), turning = column - l.nope_dim;
    const int64_t to = l.head_row(token, head) * l.key_dim() + column;
    if (turning < 0) {
      q[to] = query_row[i];
      k[to] = key_row[head * l.expanded() + column];
    } else {
      q[to] = from_float<T>(turned(l, rotary, token, turning, 1.0f, query_row + i - turning));
      k[to] = from_float<T>(turned(l, rotary, token, turning, 1.0f, shared_key + l.shared_key(token)));
    }
  }
  for (int i = static_cast<int>(threadIdx.x); i < l.heads * l.value_dim; i += threads) {
    const int head = i / l.value_dim, column = i % l.value_dim;
    v[l.head_row(token, head) * l.value_dim + column] = key_row[head * l.expanded() + l.nope_dim + column];
  }
}

// The gradient of the shared key is the sum over heads, in their order, turned back.
template <typename T>
__global__ void __launch_bounds__(threads)
    join_latent_kernel(Layout l, const T* __restrict__ dq, const T* __restrict__ dk, const T* __restrict__ dv,
                       const float* __restrict__ rotary, T* dqueries, T* __restrict__ dkeys_values, T* dshared_key) {
  const int64_t token = blockIdx.x;
  T* const query_row = dqueries + token * l.queries_stride;
  T* const key_row = dkeys_values + token * l.heads * l.expanded();
  for (int i = static_cast<int>(threadIdx.x); i < l.heads * l.key_dim(); i += threads) {
    const int head = i / l.key_dim(), column = i % l.key_dim(), turning = column - l.nope_dim;
    const int64_t from = l.head_row(token, head) * l.key_dim() + column;
    if (turning < 0) {
      query_row[i] = dq[from];
      key_row[head * l.expanded() + column] = dk[from];
    } else {
      query_row[i] = from_float<T>(turned(l, rotary, token, turning, -1.0f, dq + from - turning));
    }
  }
  for (int i = static_cast<int>(threadIdx.x); i < l.heads * l.value_dim; i += threads) {
    const int head = i / l.value_dim, column = i % l.value_dim;
    key_row[head * l.expanded() + l.nope_dim + column] = dv[l.head_row(token, head) * l.value_dim + column];
  }
  const auto summed = [&](int j) {
    float sum = 0;
    for (int head = 0; head < l.heads; ++head)
      sum += to_float(dk[l.head_row(token, head) * l.key_dim() + l.nope_dim + j]);
    return sum;
  };
  for (int i = static_cast<int>(threadIdx.x); i < l.rope_dim; i += threads)
    dshared_key[l.shared_key(token) + i] = from_float<T>(turned(l, rotary, token, i, -1.0f, summed));
}

template <typename T>
__global__ void __launch_bounds__(threads)
    cache_heads_kernel(Layout l, const T* __restrict__ latent, const T* __restrict__ shared_key,
                       const float* __restrict__ rotary, const T* __restrict__ queries, const T* __restrict__ absorbed,
                       T* __restrict__ row, T* __restrict__ q) {
  const int64_t token = blockIdx.x;
  for (int i = static_cast<int>(threadIdx.x); i < l.cached(); i += threads)
    row[token * l.cached() + i] =
        i < l.latent ? latent[token * l.latent + i]
                     : from_float<T>(turned(l, rotary, token, i - l.latent, 1.0f, shared_key + l.shared_key(token)));
  if (q == nullptr) return;
  for (int i = static_cast<int>(threadIdx.x); i < l.heads * l.cached(); i += threads) {
    const int head = i / l.cached(), column = i % l.cached(), turning = column - l.latent;
    const T* turning_query = queries + token * l.queries_stride + head * l.key_dim() + l.nope_dim;
    q[l.head_row(token, head) * l.cached() + column] =
        turning < 0 ? absorbed[(token * l.heads + head) * l.latent + column]
                    : from_float<T>(turned(l, rotary, token, turning, 1.0f, turning_query));
  }
}

dim3 a_block_for_each_token(const LatentLayout& l) {
  return dim3(static_cast<unsigned>(l.rows()));
}

}  // namespace

void CudaOps::run(const SplitLatentHeads& op) {
  dispatch_act(op.q.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    GPU_LAUNCH(split_latent_kernel<T>, a_block_for_each_token(op.layout), dim3(threads), 0, stream_,
               layout_of(op.layout, op.queries, op.shared_key), data<T>(op.queries), data<T>(op.keys_values),
               data<T>(op.shared_key), data<float>(op.rotary), data<T>(op.q), data<T>(op.k), data<T>(op.v));
  });
}

void CudaOps::run(const SplitLatentHeadsBackward& op) {
  dispatch_act(op.dq.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    GPU_LAUNCH(join_latent_kernel<T>, a_block_for_each_token(op.layout), dim3(threads), 0, stream_,
               layout_of(op.layout, op.dqueries, op.dshared_key), data<T>(op.dq), data<T>(op.dk), data<T>(op.dv),
               data<float>(op.rotary), data<T>(op.dqueries), data<T>(op.dkeys_values), data<T>(op.dshared_key));
  });
}

void CudaOps::run(const LatentCacheHeads& op) {
  dispatch_act(op.latent.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    GPU_LAUNCH(cache_heads_kernel<T>, a_block_for_each_token(op.layout), dim3(threads), 0, stream_,
               layout_of(op.layout, op.queries, op.shared_key), data<T>(op.latent), data<T>(op.shared_key),
               data<float>(op.rotary), data<T>(op.queries), data<T>(op.absorbed), data<T>(op.row), data<T>(op.q));
  });
}

}  // namespace strand
