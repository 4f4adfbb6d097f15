// Heads split off the fused projection, and their gradients joined again: norm of q and k, rotation and the change to
// head-major layout in one pass over memory.
//
// A block owns a token and its (H + 2G)·A columns; thread i owns the groups of N columns i, i + threads, …. The partner
// of a column in the rotation lies half a rotary width away, so a group has its partners in one group of the same head:
// the same row, which is in the first cache by then.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/partial_sums.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/rows.cuh"

namespace strand {

using namespace gpu;

namespace {

constexpr int most_threads = 256;

/// Columns and heads of a row [q | k | v].
struct Heads {
  int tokens;  ///< S
  int heads, kv_heads, head_dim, half;
  QkNorm norm;

  __device__ int normalized() const { return heads + kv_heads; }  ///< q and k
  __device__ int all() const { return heads + 2 * kv_heads; }
  __device__ int64_t width() const { return static_cast<int64_t>(all()) * head_dim; }
  __device__ bool is_q(int head) const { return head < heads; }
  /// Which of the token's norms normalizes a head: its own, or 0 for all of q and 1 for all of k.
  __device__ int norm_of(int head) const {
    if (norm == QkNorm::head) return head;
    return is_q(head) ? 0 : 1;
  }
};

Heads heads_of(const HeadLayout& l, QkNorm norm) {
  return {static_cast<int>(l.tokens),   static_cast<int>(l.heads),          static_cast<int>(l.kv_heads),
          static_cast<int>(l.head_dim), static_cast<int>(l.rotary_dim / 2), norm};
}

/// q, k, v in head-major layout, or their gradients.
template <typename T>
struct Parts {
  T *q, *k, *v;

  /// The A values of head `head` (counted over q, k and v) at a token.
  __device__ T* head(const Heads& l, int64_t token, int head) const {
    const int64_t b = token / l.tokens, s = token % l.tokens;
    T* part = q;
    int count = l.heads, h = head;
    if (head >= l.heads) {
      const bool value = head >= l.normalized();
      part = value ? v : k;
      count = l.kv_heads;
      h = head - (value ? l.normalized() : l.heads);
    }
    return part + ((b * count + h) * l.tokens + s) * l.head_dim;
  }
};

/// Weights and statistics of the norms of q and k. All are nullptr in a model without them.
struct Norms {
  const float *q_weight, *k_weight;
  float *q_rstd, *k_rstd;

  /// The weights of the A columns of a head.
  __device__ const float* weight(const Heads& l, int head) const {
    const float* weight = l.is_q(head) ? q_weight : k_weight;
    const int index = l.is_q(head) ? head : head - l.heads;
    return l.norm == QkNorm::full ? weight + static_cast<int64_t>(index) * l.head_dim : weight;
  }
  __device__ float* rstd(const Heads& l, int64_t token, int norm) const {
    if (l.norm == QkNorm::full) return (norm == 0 ? q_rstd : k_rstd) + token;
    return norm < l.heads ? q_rstd + token * l.heads + norm : k_rstd + token * l.kv_heads + norm - l.heads;
  }
};

/// Where a group of columns stands in the rotation. `sign` is that of the partner's sine; columns that are not rotated
/// have 0.
struct Turn {
  int partner, angle;
  float sign;
};
__device__ inline Turn turn_of(const Heads& l, int column) {
  if (column < l.half) return {column + l.half, column, -1.0f};
  if (column < 2 * l.half) return {column - l.half, column - l.half, 1.0f};
  return {column, 0, 0.0f};
}

/// Turns x by the angles of a position: x cos + sign partner sin.
template <int N>
__device__ void turn(const Heads& l, const float* rotary, int position, const Turn& t, float sign,
                     const float (&partner)[N], float (&x)[N]) {
  float cosine[N], sine[N];
  const float* angles = rotary + static_cast<int64_t>(position) * 2 * l.half + t.angle;
  load(angles, cosine);
  load(angles + l.half, sine);
#pragma unroll
  for (int j = 0; j < N; ++j) x[j] = x[j] * cosine[j] + sign * partner[j] * sine[j];
}

/// Writes to `sums` the sum of `term(head, column)`, which sums over a group of columns, for each norm: one a head, or
/// one over all heads of q and one of k. A warp owns a head; for a norm over all heads, two threads then add what the
/// heads have, in order. All threads of the block call it.
template <int N, typename Term>
__device__ void sum_by_norm(const Heads& l, float* sums, const Term& term) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  for (int head = warp; head < l.normalized(); head += warps) {
    float sum = 0;
    for (int column = lane * N; column < l.head_dim; column += 32 * N) sum += term(head, column);
    sum = warp_sum(sum);
    if (lane == 0) sums[head] = sum;
  }
  __syncthreads();
  if (l.norm != QkNorm::full) return;
  float total = 0;
  if (threadIdx.x < 2) {
    const int begin = threadIdx.x == 0 ? 0 : l.heads, end = threadIdx.x == 0 ? l.heads : l.normalized();
    for (int head = begin; head < end; ++head) total += sums[head];
  }
  __syncthreads();
  if (threadIdx.x < 2) sums[threadIdx.x] = total;
  __syncthreads();
}

/// How many columns share the norm of a head.
__device__ inline float norm_width(const Heads& l, int head) {
  if (l.norm == QkNorm::head) return static_cast<float>(l.head_dim);
  return static_cast<float>(l.head_dim) * static_cast<float>(l.is_q(head) ? l.heads : l.kv_heads);
}

// A block reads a row of qkv, whose q and k it reads again from cache, and writes each element once.
template <typename T, int N>
__global__ void __launch_bounds__(most_threads)
    split_heads_kernel(Heads l, const T* __restrict__ qkv, const float* __restrict__ rotary, Norms norms, float eps,
                       Parts<T> to) {
  GPU_DYN_SHARED(float, rstds);  // [H + G]
  const int64_t token = blockIdx.x;
  const T* row = qkv + token * l.width();
  const bool normalized = l.norm != QkNorm::none;
  if (normalized) {
    sum_by_norm<N>(l, rstds, [&](int head, int column) {
      float x[N], squares = 0;
      load(row + head * l.head_dim + column, x);
#pragma unroll
      for (int j = 0; j < N; ++j) squares += x[j] * x[j];
      return squares;
    });
    const int count = l.norm == QkNorm::full ? 2 : l.normalized();
    for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) {
      const int head = l.norm == QkNorm::full && i == 1 ? l.heads : i;
      rstds[i] = 1.0f / sqrtf(rstds[i] / norm_width(l, head) + eps);
      *norms.rstd(l, token, i) = rstds[i];
    }
    __syncthreads();
  }
  const int groups = l.head_dim / N, position = static_cast<int>(token % l.tokens);
  for (int i = static_cast<int>(threadIdx.x); i < l.all() * groups; i += static_cast<int>(blockDim.x)) {
    const int head = i / groups, column = i % groups * N;
    const bool turns_or_scales = head < l.normalized();
    const auto read = [&](int at, float(&x)[N]) {
      load(row + head * l.head_dim + at, x);
      if (!normalized || !turns_or_scales) return;
      const float rstd = rstds[l.norm_of(head)];
      float weight[N];
      load(norms.weight(l, head) + at, weight);
#pragma unroll
      for (int j = 0; j < N; ++j) x[j] *= rstd * weight[j];
    };
    float x[N];
    read(column, x);
    const Turn t = turn_of(l, column);
    if (turns_or_scales && t.sign != 0) {
      float partner[N];
      read(t.partner, partner);
      turn(l, rotary, position, t, t.sign, partner, x);
    }
    store(to.head(l, token, head) + column, x);
  }
}

// A block walks tokens with the stride of the grid. It sums its part of the gradients of the norms' weights in
// `dweight` [H + G, A] in shared memory, where each element belongs to one thread, and writes it to `partial` at the
// end; where all heads share their weights, it sums over heads first. It reads qkv, dq, dk and dv once from memory and
// once from cache, and writes dqkv once.
template <typename T, int N>
__global__ void __launch_bounds__(most_threads)
    join_heads_kernel(Heads l, Parts<const T> from, const float* __restrict__ rotary, const T* __restrict__ qkv,
                      Norms norms, int64_t count, T* __restrict__ dqkv, float* partial, int64_t partial_width,
                      float* dweight_in_memory) {
  GPU_DYN_SHARED(float, shared);
  const bool normalized = l.norm != QkNorm::none;
  float* means = shared;  // [H + G]
  // Where the gradients do not fit into shared memory, they are the block's own in device memory.
  const int columns = l.normalized() * l.head_dim;
  float* dweight = dweight_in_memory != nullptr ? dweight_in_memory + static_cast<int64_t>(blockIdx.x) * columns
                                                : shared + (l.normalized() + 3) / 4 * 4;
  if (normalized)
    for (int c = static_cast<int>(threadIdx.x); c < columns; c += static_cast<int>(blockDim.x)) dweight[c] = 0;
  __syncthreads();

  const int groups = l.head_dim / N;
  for (int64_t token = blockIdx.x; token < count; token += gridDim.x) {
    const int position = static_cast<int>(token % l.tokens);
    const auto turned_back = [&](int head, int column, float(&dy)[N]) {
      const T* row = from.head(l, token, head);
      load(row + column, dy);
      const Turn t = turn_of(l, column);
      if (t.sign == 0) return;
      float partner[N];
      load(row + t.partner, partner);
      turn(l, rotary, position, t, -t.sign, partner, dy);
    };
    const auto x_hat = [&](int head, int column, float(&x)[N]) {
      load(qkv + token * l.width() + head * l.head_dim + column, x);
      const float rstd = *norms.rstd(l, token, l.norm_of(head));
#pragma unroll
      for (int j = 0; j < N; ++j) x[j] *= rstd;
      return rstd;
    };
    if (normalized) {
      sum_by_norm<N>(l, means, [&](int head, int column) {
        float dy[N], x[N], weight[N], dot = 0;
        turned_back(head, column, dy);
        x_hat(head, column, x);
        load(norms.weight(l, head) + column, weight);
#pragma unroll
        for (int j = 0; j < N; ++j) dot += dy[j] * weight[j] * x[j];
        return dot;
      });
    }
    for (int i = static_cast<int>(threadIdx.x); i < l.all() * groups; i += static_cast<int>(blockDim.x)) {
      const int head = i / groups, column = i % groups * N;
      float dy[N];
      if (head >= l.normalized()) {
        load(from.head(l, token, head) + column, dy);
      } else {
        turned_back(head, column, dy);
      }
      if (normalized && head < l.normalized()) {
        float x[N], weight[N], sum[N];
        const float rstd = x_hat(head, column, x);
        const float mean = means[l.norm_of(head)] / norm_width(l, head);
        load(norms.weight(l, head) + column, weight);
        float* mine = dweight + head * l.head_dim + column;
        load(mine, sum);
#pragma unroll
        for (int j = 0; j < N; ++j) {
          sum[j] += dy[j] * x[j];
          dy[j] = rstd * (dy[j] * weight[j] - x[j] * mean);
        }
        store(mine, sum);
      }
      store(dqkv + token * l.width() + head * l.head_dim + column, dy);
    }
    __syncthreads();  // `means` is free for the next token
  }

  if (!normalized) return;
  float* out = partial + blockIdx.x * partial_width;
  for (int64_t c = threadIdx.x; c < partial_width; c += blockDim.x) {
    if (l.norm == QkNorm::full) {
      out[c] = dweight[c];
      continue;
    }
    const bool q = c < l.head_dim;
    const int begin = q ? 0 : l.heads, end = q ? l.heads : l.normalized();
    const int column = static_cast<int>(q ? c : c - l.head_dim);
    float sum = 0;
    for (int head = begin; head < end; ++head) sum += dweight[head * l.head_dim + column];
    out[c] = sum;
  }
}

/// Calls body(Count<8>) where heads and half rotary widths are multiples of 8 and addresses allow it, else
/// body(Count<1>).
template <typename Body>
void with_head_access(const HeadLayout& l, std::initializer_list<const Tensor*> tensors, const Body& body) {
  if (l.rotary_dim % 16 == 0) return with_access<8>(l.head_dim, tensors, body);
  body(Count<1>{});
}

}  // namespace

void CudaOps::run(const SplitHeads& op) {
  const HeadLayout& l = op.layout;
  const Norms norms{data<float>(op.q_weight), data<float>(op.k_weight), data<float>(op.q_rstd), data<float>(op.k_rstd)};
  const size_t shared = static_cast<size_t>(l.heads + l.kv_heads) * sizeof(float);
  dispatch_act(op.qkv.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    with_head_access(l, {&op.qkv, &op.rotary, &op.q_weight, &op.k_weight, &op.q, &op.k, &op.v}, [&](auto n) {
      constexpr int N = decltype(n)::value;
      const int threads = threads_for(op.qkv.dim(1), N, most_threads);
      GPU_LAUNCH((split_heads_kernel<T, N>), blocks(l.sequences * l.tokens), dim3(static_cast<unsigned>(threads)),
                 shared, stream_, heads_of(l, op.norm), data<T>(op.qkv), data<float>(op.rotary), norms,
                 static_cast<float>(op.eps), (Parts<T>{data<T>(op.q), data<T>(op.k), data<T>(op.v)}));
    });
  });
}

void CudaOps::run(const SplitHeadsBackward& op) {
  const HeadLayout& l = op.layout;
  const Norms norms{data<float>(op.q_weight), data<float>(op.k_weight), data<float>(op.q_rstd), data<float>(op.k_rstd)};
  const JoinShape shape(op);
  const int64_t count = l.sequences * l.tokens, grid = shape.grid, weights = shape.weights();
  const bool normalized = op.norm != QkNorm::none;
  float* partial = normalized ? workspace_of<float>(op, shape.workspace()) : nullptr;
  float* in_memory = normalized && !shape.in_shared ? partial + grid * shape.sums_floats() : nullptr;
  dispatch_act(op.dqkv.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    with_head_access(
        l, {&op.qkv, &op.rotary, &op.q_weight, &op.k_weight, &op.dq, &op.dk, &op.dv, &op.dqkv}, [&](auto n) {
          constexpr int N = decltype(n)::value;
          const int threads = threads_for(op.dqkv.dim(1), N, most_threads);
          GPU_LAUNCH((join_heads_kernel<T, N>), blocks(grid), dim3(static_cast<unsigned>(threads)), shape.shared_bytes,
                     stream_, heads_of(l, op.norm), (Parts<const T>{data<T>(op.dq), data<T>(op.dk), data<T>(op.dv)}),
                     data<float>(op.rotary), data<T>(op.qkv), norms, count, data<T>(op.dqkv), partial, weights,
                     in_memory);
        });
  });
  if (!normalized) return;
  add_column_sums(stream_, partial, grid, weights, shape.q_weights, data<float>(op.dq_weight));
  add_column_sums(stream_, partial + shape.q_weights, grid, weights, shape.k_weights, data<float>(op.dk_weight));
}

}  // namespace strand
