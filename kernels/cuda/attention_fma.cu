// Attention in fp32 by fused multiply-add, for f32 activations and heads of any width up to 256.
//
// A block of 256 threads works on 32 queries against 32 keys at a time, all of it in shared memory. Of a 32 x 32 matrix
// of scores, thread (ty, tx), ty = thread / 16 and tx = thread % 16, owns rows ty, ty + 16 and columns tx, tx + 16; of
// a 32 x A matrix, rows ty, ty + 16 and columns tx, tx + 16, tx + 32, …, which are C columns in registers. Tiles of
// values, which are U wide, have the same form: C is enough for the wider of the two. Each gradient has one owner, and
// every sum one order.
#include <algorithm>
#include <type_traits>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/gpu.cuh"

namespace strand::gpu {

namespace {

constexpr int rows = 32, threads = 256;
constexpr int score_stride = rows + 1;  // odd, so that columns of scores are read without bank conflicts too

/// Kernels are made for WIDTHS widths: 1 where values are as wide as keys, so that they need no second one, or 2.
template <int WIDTHS>
__device__ inline int value_dim(const AttentionShape& shape) {
  return WIDTHS == 1 ? shape.head_dim : shape.value_dim;
}
/// How many blocks of the backward pass the compiler leaves registers for on a multiprocessor. 0 leaves the choice to
/// it.
template <int WIDTHS>
constexpr int backward_blocks = WIDTHS == 1 ? 0 : 1;

/// Rows of A elements in shared memory lie an odd number of elements apart: 32 rows in 32 banks.
template <int C>
constexpr int stride = C * 16 + 1;

template <int C>
constexpr int tile_elements = rows* stride<C>;

/// 32 rows of a matrix in global memory, from `data` on. Rows from `count` on do not exist and count as zero.
struct Rows {
  float* data;
  int stride, count;
};

/// Rows of one head, from row `first` on, of q, k or their gradients (width A), or of v or dv (width U).
__device__ inline Rows head_rows(const float* tensor, const AttentionShape& shape, int width, int head, int first) {
  return {const_cast<float*>(tensor) + (static_cast<int64_t>(head) * shape.tokens + first) * width, width,
          shape.tokens - first};
}

/// Rows of one head, from row `first` on, of out or dout.
__device__ inline Rows token_rows(const float* tensor, const AttentionShape& shape, int width, int sequence, int head,
                                  int first) {
  const int stride = shape.heads * width;
  return {const_cast<float*>(tensor) + (static_cast<int64_t>(sequence) * shape.tokens + first) * stride + head * width,
          stride, shape.tokens - first};
}

template <int C>
__device__ void load_tile(float* tile, const Rows& from, int head_dim) {
  for (int i = static_cast<int>(threadIdx.x); i < rows * C * 16; i += threads) {
    const int row = i / (C * 16), column = i % (C * 16);
    const bool inside = row < from.count && column < head_dim;
    tile[row * stride<C> + column] = inside ? from.data[static_cast<int64_t>(row) * from.stride + column] : 0.0f;
  }
}

struct Place {
  int y = static_cast<int>(threadIdx.x) / 16, x = static_cast<int>(threadIdx.x) % 16;
};

/// c[i][j] = ⟨row y + 16 i of a, row x + 16 j of b⟩
template <int C>
__device__ void multiply_rows(float (&c)[2][2], const float* a, const float* b, const Place& at) {
  c[0][0] = c[0][1] = c[1][0] = c[1][1] = 0;
  for (int k = 0; k < C * 16; ++k) {
    const float a0 = a[at.y * stride<C> + k], a1 = a[(at.y + 16) * stride<C> + k];
    const float b0 = b[at.x * stride<C> + k], b1 = b[(at.x + 16) * stride<C> + k];
    c[0][0] += a0 * b0, c[0][1] += a0 * b1, c[1][0] += a1 * b0, c[1][1] += a1 * b1;
  }
}

__device__ inline void store_scores(float* scores, const float (&c)[2][2], const Place& at) {
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int j = 0; j < 2; ++j) scores[(at.y + 16 * i) * score_stride + at.x + 16 * j] = c[i][j];
}

enum class Scores { as_they_are, transposed };
/// sums[i][c] += Σ_k scores[y + 16 i][k] b[k][x + 16 c], or with the scores transposed.
template <Scores SCORES, int C>
__device__ void multiply_scores(float (&sums)[2][C], const float* scores, const float* b, const Place& at) {
  for (int k = 0; k < rows; ++k) {
    const bool plain = SCORES == Scores::as_they_are;
    const float p0 = plain ? scores[at.y * score_stride + k] : scores[k * score_stride + at.y];
    const float p1 = plain ? scores[(at.y + 16) * score_stride + k] : scores[k * score_stride + at.y + 16];
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const float value = b[k * stride<C> + at.x + 16 * c];
      sums[0][c] += p0 * value, sums[1][c] += p1 * value;
    }
  }
}

template <int C>
__device__ void store_rows(const Rows& to, const float (&sums)[2][C], const float (&factor)[2], int head_dim,
                           const Place& at) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = at.y + 16 * i;
    if (row >= to.count) continue;
#pragma unroll
    for (int c = 0; c < C; ++c)
      if (at.x + 16 * c < head_dim)
        to.data[static_cast<int64_t>(row) * to.stride + at.x + 16 * c] = sums[i][c] * factor[i];
  }
}

// The maximum and the sum over the 16 threads that share rows.
__device__ inline float row_max(float x) {
  for (int offset = 8; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return x;
}
__device__ inline float row_sum(float x) {
  for (int offset = 8; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

// ---- Forward. Block (sequence and head, block of queries, the longest first) ---------------------------------------

template <int C, int WIDTHS>
__global__ void __launch_bounds__(threads, 2) forward_kernel(AttentionForwardTensors<float> t, AttentionShape shape) {
  const int values = value_dim<WIDTHS>(shape);
  GPU_DYN_SHARED(float, shared);
  float* const q = shared;
  float* const kv = q + tile_elements<C>;  // k, then v
  float* const scores = kv + tile_elements<C>;
  const int sequence_head = static_cast<int>(blockIdx.x);
  const int sequence = sequence_head / shape.heads, head = sequence_head % shape.heads;
  const int kv_head = sequence * shape.kv_heads + head / (shape.heads / shape.kv_heads);
  const int first_query = static_cast<int>(gridDim.y - 1 - blockIdx.y) * rows;
  const int end_of_keys = min(first_query + rows, shape.tokens);
  const Place at;

  load_tile<C>(q, head_rows(t.q, shape, shape.head_dim, sequence_head, first_query), shape.head_dim);
  float out[2][C] = {}, largest[2] = {-INFINITY, -INFINITY}, sum[2] = {};
  for (int key = 0; key < end_of_keys; key += rows) {
    __syncthreads();
    load_tile<C>(kv, head_rows(t.k, shape, shape.head_dim, kv_head, key), shape.head_dim);
    __syncthreads();
    float c[2][2];
    multiply_rows<C>(c, q, kv, at);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j)
        c[i][j] = key + at.x + 16 * j <= first_query + at.y + 16 * i ? c[i][j] * shape.scale : -INFINITY;
      const float now = fmaxf(largest[i], row_max(fmaxf(c[i][0], c[i][1])));
      const float before = expf(largest[i] - now);
      largest[i] = now;
#pragma unroll
      for (int j = 0; j < 2; ++j) c[i][j] = expf(c[i][j] - now);
      sum[i] = sum[i] * before + row_sum(c[i][0] + c[i][1]);
#pragma unroll
      for (int n = 0; n < C; ++n) out[i][n] *= before;
    }
    store_scores(scores, c, at);
    __syncthreads();
    load_tile<C>(kv, head_rows(t.v, shape, values, kv_head, key), values);
    __syncthreads();
    multiply_scores<Scores::as_they_are>(out, scores, kv, at);
  }
  const float factor[2] = {1 / sum[0], 1 / sum[1]};
  store_rows(token_rows(t.out, shape, values, sequence, head, first_query), out, factor, values, at);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int query = first_query + at.y + 16 * i;
    if (at.x == 0 && query < shape.tokens)
      t.lse[static_cast<int64_t>(sequence_head) * shape.tokens + query] = largest[i] + logf(sum[i]);
  }
}

// ---- Backward: attention_backward.cu explains the two kernels ------------------------------------------------------

/// P and dS of 32 queries against 32 keys: p[query][key], ds[query][key], both zero where a key is later.
template <int C>
__device__ void probabilities(float* p, float* ds, const float* q, const float* k, const float* dout, const float* v,
                              const float (&lse)[2], const float (&delta)[2], float scale, int query_minus_key,
                              const Place& at) {
  float c[2][2], dp[2][2];
  multiply_rows<C>(c, q, k, at);
  multiply_rows<C>(dp, dout, v, at);
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const bool seen = at.x + 16 * j <= at.y + 16 * i + query_minus_key;
      c[i][j] = seen ? expf(c[i][j] * scale - lse[i]) : 0.0f;
      dp[i][j] = c[i][j] * (dp[i][j] - delta[i]);
    }
  store_scores(p, c, at);
  store_scores(ds, dp, at);
}

/// Loads lse and Δ of this thread's two queries. Queries past the end of the sequence have dout = 0, so that any finite
/// lse gives them no gradient.
__device__ inline void load_statistics(float (&lse)[2], float (&delta)[2], const AttentionBackwardTensors<float>& t,
                                       const AttentionShape& shape, int sequence_head, int first_query,
                                       const Place& at) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int query = first_query + at.y + 16 * i;
    const int64_t row = static_cast<int64_t>(sequence_head) * shape.tokens + query;
    lse[i] = query < shape.tokens ? t.lse[row] : 0.0f;
    delta[i] = query < shape.tokens ? t.delta[row] : 0.0f;
  }
}

template <int C>
constexpr size_t backward_bytes = sizeof(float) * (4 * tile_elements<C> + 2 * rows * score_stride);

// A block owns dk and dv of 32 keys and goes through the queries of all heads of its group that see them.
template <int C, int WIDTHS>
__global__ void __launch_bounds__(threads, backward_blocks<WIDTHS>)
    keys_kernel(AttentionBackwardTensors<float> t, AttentionShape shape) {
  const int values = value_dim<WIDTHS>(shape);
  GPU_DYN_SHARED(float, shared);
  float* const k = shared;
  float* const v = k + tile_elements<C>;
  float* const q = v + tile_elements<C>;
  float* const dout = q + tile_elements<C>;
  float* const p = dout + tile_elements<C>;
  float* const ds = p + rows * score_stride;
  const int kv_head = static_cast<int>(blockIdx.x), sequence = kv_head / shape.kv_heads;
  const int heads_of_group = shape.heads / shape.kv_heads;
  const int first_head = kv_head % shape.kv_heads * heads_of_group;
  const int first_key = static_cast<int>(blockIdx.y) * rows;
  const Place at;

  load_tile<C>(k, head_rows(t.k, shape, shape.head_dim, kv_head, first_key), shape.head_dim);
  load_tile<C>(v, head_rows(t.v, shape, values, kv_head, first_key), values);
  float dk[2][C] = {}, dv[2][C] = {};
  for (int head = first_head; head < first_head + heads_of_group; ++head) {
    const int sequence_head = sequence * shape.heads + head;
    for (int query = first_key; query < shape.tokens; query += rows) {
      __syncthreads();
      load_tile<C>(q, head_rows(t.q, shape, shape.head_dim, sequence_head, query), shape.head_dim);
      load_tile<C>(dout, token_rows(t.dout, shape, values, sequence, head, query), values);
      float lse[2], delta[2];
      load_statistics(lse, delta, t, shape, sequence_head, query, at);
      __syncthreads();
      probabilities<C>(p, ds, q, k, dout, v, lse, delta, shape.scale, query - first_key, at);
      __syncthreads();
      multiply_scores<Scores::transposed>(dv, p, dout, at);
      multiply_scores<Scores::transposed>(dk, ds, q, at);
    }
  }
  const float scales[2] = {shape.scale, shape.scale}, ones[2] = {1, 1};
  store_rows(head_rows(t.dk, shape, shape.head_dim, kv_head, first_key), dk, scales, shape.head_dim, at);
  store_rows(head_rows(t.dv, shape, values, kv_head, first_key), dv, ones, values, at);
}

// A block owns dq of 32 queries and goes through the keys that they see.
template <int C, int WIDTHS>
__global__ void __launch_bounds__(threads, backward_blocks<WIDTHS>)
    queries_kernel(AttentionBackwardTensors<float> t, AttentionShape shape) {
  const int values = value_dim<WIDTHS>(shape);
  GPU_DYN_SHARED(float, shared);
  float* const q = shared;
  float* const dout = q + tile_elements<C>;
  float* const k = dout + tile_elements<C>;
  float* const v = k + tile_elements<C>;
  float* const p = v + tile_elements<C>;
  float* const ds = p + rows * score_stride;
  const int sequence_head = static_cast<int>(blockIdx.x);
  const int sequence = sequence_head / shape.heads, head = sequence_head % shape.heads;
  const int kv_head = sequence * shape.kv_heads + head / (shape.heads / shape.kv_heads);
  const int first_query = static_cast<int>(gridDim.y - 1 - blockIdx.y) * rows;
  const int end_of_keys = min(first_query + rows, shape.tokens);
  const Place at;

  load_tile<C>(q, head_rows(t.q, shape, shape.head_dim, sequence_head, first_query), shape.head_dim);
  load_tile<C>(dout, token_rows(t.dout, shape, values, sequence, head, first_query), values);
  float lse[2], delta[2], dq[2][C] = {};
  load_statistics(lse, delta, t, shape, sequence_head, first_query, at);
  for (int key = 0; key < end_of_keys; key += rows) {
    __syncthreads();
    load_tile<C>(k, head_rows(t.k, shape, shape.head_dim, kv_head, key), shape.head_dim);
    load_tile<C>(v, head_rows(t.v, shape, values, kv_head, key), values);
    __syncthreads();
    probabilities<C>(p, ds, q, k, dout, v, lse, delta, shape.scale, first_query - key, at);
    __syncthreads();
    multiply_scores<Scores::as_they_are>(dq, ds, k, at);
  }
  const float scales[2] = {shape.scale, shape.scale};
  store_rows(head_rows(t.dq, shape, shape.head_dim, sequence_head, first_query), dq, scales, shape.head_dim, at);
}

dim3 grid(int heads, const AttentionShape& shape) {
  return {static_cast<unsigned>(shape.sequences * heads), static_cast<unsigned>(ceil_div(shape.tokens, rows))};
}

template <int C, int WIDTHS>
void launch_forward(const AttentionForwardTensors<float>& tensors, const AttentionShape& shape, cudaStream_t stream) {
  const size_t shared_bytes = sizeof(float) * (2 * tile_elements<C> + rows * score_stride);
  GPU_LAUNCH((forward_kernel<C, WIDTHS>), grid(shape.heads, shape), dim3(threads), shared_bytes, stream, tensors,
             shape);
}

template <int C, int WIDTHS>
void launch_backward(const AttentionBackwardTensors<float>& tensors, const AttentionShape& shape, cudaStream_t stream) {
  GPU_LAUNCH((keys_kernel<C, WIDTHS>), grid(shape.kv_heads, shape), dim3(threads), backward_bytes<C>, stream, tensors,
             shape);
  GPU_LAUNCH((queries_kernel<C, WIDTHS>), grid(shape.heads, shape), dim3(threads), backward_bytes<C>, stream, tensors,
             shape);
}

template <int VALUE>
using Constant = std::integral_constant<int, VALUE>;

/// Calls body(C, WIDTHS), both as constants, with the smallest tiles that hold keys and values.
template <typename Body>
void with_tiles(const AttentionShape& shape, const Body& body) {
  constexpr int most = most_head_dim / 16;
  if (!shape.one_width()) {
    if (std::max(shape.head_dim, shape.value_dim) <= 64) return body(Constant<4>{}, Constant<2>{});
    return body(Constant<most>{}, Constant<2>{});
  }
  if (shape.head_dim <= 32) return body(Constant<2>{}, Constant<1>{});
  if (shape.head_dim <= 64) return body(Constant<4>{}, Constant<1>{});
  if (shape.head_dim <= 128) return body(Constant<8>{}, Constant<1>{});
  body(Constant<most>{}, Constant<1>{});
}

}  // namespace

void attention_forward(const AttentionForwardTensors<float>& tensors, const AttentionShape& shape,
                       cudaStream_t stream) {
  with_tiles(shape, [&](auto c, auto widths) {
    launch_forward<decltype(c)::value, decltype(widths)::value>(tensors, shape, stream);
  });
}

void attention_backward(const AttentionBackwardTensors<float>& tensors, const AttentionShape& shape,
                        cudaStream_t stream) {
  with_tiles(shape, [&](auto c, auto widths) {
    launch_backward<decltype(c)::value, decltype(widths)::value>(tensors, shape, stream);
  });
}

}  // namespace strand::gpu
