// Heads of latent attention from its projections, and back; and what the latent cache reads. A row of a token is copied
// to the tensors of the heads, and its rotated parts turn on the way. Tokens are taken in runs, as in split_heads.cpp.
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/rotate.h"
#include "kernels/cpu/token_blocks.h"

namespace strand {

namespace {
using simd::vfloat;
using simd::width;

constexpr int64_t run_tokens = block_sizes::split_tokens;

/// body(token, head) for all tokens and heads, run by run, on all threads.
template <typename Body>
void for_tokens_and_heads(const LatentLayout& l, const Body& body) {
  for_blocks(l.rows(), block_sizes::norm_rows, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t first = begin; first < end; first += run_tokens) {
      const int64_t behind = std::min(first + run_tokens, end);
      for (int64_t h = 0; h < l.heads; ++h)
        for (int64_t token = first; token < behind; ++token) body(token, h);
    }
  });
}

/// Row of a token and head in [B, H, S].
int64_t head_row(const LatentLayout& l, int64_t token, int64_t head) {
  return (token / l.tokens * l.heads + head) * l.tokens + token % l.tokens;
}

const float* angles_of(const LatentLayout& l, const Tensor& rotary, int64_t token) {
  return rotary.as<float>() + token % l.tokens * l.rope_dim;
}

/// The last p columns of a token's row.
template <typename T>
T* shared_key_of(const LatentLayout& l, const Tensor& matrix, int64_t token) {
  return matrix.as<T>() + (token + 1) * matrix.dim(1) - l.rope_dim;
}

template <typename T>
void split(const SplitLatentHeads& op) {
  const LatentLayout& l = op.layout;
  const int64_t n = l.nope_dim, half = l.rope_dim / 2, expanded = n + l.value_dim;
  for_tokens_and_heads(l, [&](int64_t token, int64_t h) {
    const float* angles = angles_of(l, op.rotary, token);
    const T* query = op.queries.as<T>() + token * op.queries.dim(1) + h * l.key_dim();
    const T* key = op.keys_values.as<T>() + (token * l.heads + h) * expanded;
    const int64_t row = head_row(l, token, h);
    T *q = op.q.as<T>() + row * l.key_dim(), *k = op.k.as<T>() + row * l.key_dim();
    std::copy_n(query, n, q);
    rotate<Turn::forward>(query + n, angles, half, l.rope_dim, q + n);
    std::copy_n(key, n, k);
    rotate<Turn::forward>(shared_key_of<T>(l, op.shared_key, token), angles, half, l.rope_dim, k + n);
    std::copy_n(key + n, l.value_dim, op.v.as<T>() + row * l.value_dim);
  });
}

struct JoinBuffers {
  JoinBuffers(Workspace& memory, const SplitLatentHeadsBackward& op) : sum(memory, op.layout.rope_dim) {}
  ThreadBuffers sum;  ///< [p]
};

/// The gradient of the shared key: the sum over heads, turned back.
template <typename T>
void join_shared_key(const SplitLatentHeadsBackward& op, int64_t token, float* sum) {
  const LatentLayout& l = op.layout;
  std::fill_n(sum, l.rope_dim, 0.0f);
  for (int64_t h = 0; h < l.heads; ++h) {
    const T* dk = op.dk.as<T>() + head_row(l, token, h) * l.key_dim() + l.nope_dim;
    for (int64_t i = 0; i < l.rope_dim; i += width) {
      const int64_t count = l.rope_dim - i;
      simd::store_up_to(sum + i, simd::load_up_to(sum + i, count) + simd::load_up_to(dk + i, count), count);
    }
  }
  rotate<Turn::backward>(sum, angles_of(l, op.rotary, token), l.rope_dim / 2, l.rope_dim,
                         shared_key_of<T>(l, op.dshared_key, token));
}

template <typename T>
void join(const SplitLatentHeadsBackward& op, const JoinBuffers& buffers) {
  const LatentLayout& l = op.layout;
  const int64_t n = l.nope_dim, expanded = n + l.value_dim;
  for_tokens_and_heads(l, [&](int64_t token, int64_t h) {
    T* dquery = op.dqueries.as<T>() + token * op.dqueries.dim(1) + h * l.key_dim();
    T* dkey = op.dkeys_values.as<T>() + (token * l.heads + h) * expanded;
    const int64_t row = head_row(l, token, h);
    const T* dq = op.dq.as<T>() + row * l.key_dim();
    std::copy_n(dq, n, dquery);
    rotate<Turn::backward>(dq + n, angles_of(l, op.rotary, token), l.rope_dim / 2, l.rope_dim, dquery + n);
    std::copy_n(op.dk.as<T>() + row * l.key_dim(), n, dkey);
    std::copy_n(op.dv.as<T>() + row * l.value_dim, l.value_dim, dkey + n);
    if (h == 0) join_shared_key<T>(op, token, buffers.sum.mine());
  });
}

template <typename T>
void cache_heads(const LatentCacheHeads& op) {
  const LatentLayout& l = op.layout;
  const int64_t half = l.rope_dim / 2;
  for_tokens_and_heads(l, [&](int64_t token, int64_t h) {
    const float* angles = angles_of(l, op.rotary, token);
    if (h == 0) {
      T* row = op.row.as<T>() + token * l.cached_dim();
      std::copy_n(op.latent.as<T>() + token * l.latent, l.latent, row);
      rotate<Turn::forward>(shared_key_of<T>(l, op.shared_key, token), angles, half, l.rope_dim, row + l.latent);
    }
    if (!op.q) return;
    T* q = op.q.as<T>() + head_row(l, token, h) * l.cached_dim();
    std::copy_n(op.absorbed.as<T>() + (token * l.heads + h) * l.latent, l.latent, q);
    const T* query = op.queries.as<T>() + token * op.queries.dim(1) + h * l.key_dim();
    rotate<Turn::forward>(query + l.nope_dim, angles, half, l.rope_dim, q + l.latent);
  });
}
}  // namespace

void CpuOps::run(const SplitLatentHeads& op) {
  dispatch_act(op.q.dtype, [&](auto tag) { split<typename decltype(tag)::type>(op); });
}

void CpuOps::run(const SplitLatentHeadsBackward& op) {
  const auto memory = buffers<JoinBuffers>(op);
  dispatch_act(op.dq.dtype, [&](auto tag) { join<typename decltype(tag)::type>(op, memory); });
}

void CpuOps::run(const LatentCacheHeads& op) {
  dispatch_act(op.latent.dtype, [&](auto tag) { cache_heads<typename decltype(tag)::type>(op); });
}

size_t CpuWorkspaces::bytes(const SplitLatentHeadsBackward& op) const {
  return workspace_bytes<JoinBuffers>(op);
}

}  // namespace strand
