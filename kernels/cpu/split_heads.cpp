// From the fused projection to heads and back: a token's row is widened to f32 in the first cache, normalized and
// rotated there, and written to head-major tensors; backward is the mirror.
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/partial_sums.h"
#include "kernels/cpu/rms_norm.h"
#include "kernels/cpu/token_blocks.h"

namespace strand {

namespace {
using simd::vfloat;
using simd::width;

template <typename From, typename To>
void convert(const From* from, int64_t n, To* to) {
  for (int64_t i = 0; i < n; i += width) simd::store_up_to(to + i, simd::load_up_to(from + i, n - i), n - i);
}

enum class Turn { forward, backward };

/// Rotates the pairs (i, i + half) by the angles of a position, or back.
template <Turn turn>
void rotate(float* __restrict head, const float* __restrict rotary, int64_t half) {
  const float *cosine = rotary, *sine = rotary + half;
  float* second = head + half;
#pragma omp simd
  for (int64_t i = 0; i < half; ++i) {
    const float s = turn == Turn::forward ? sine[i] : -sine[i];
    const float a = head[i], b = second[i];
    head[i] = a * cosine[i] - b * s;
    second[i] = b * cosine[i] + a * s;
  }
}

/// q or k of all tokens: some heads of each row of the fused projection, and the norm over groups of its columns.
template <typename T>
struct Part {
  int64_t heads, column;  ///< first column in a row of the fused projection
  T* data;                ///< [B, heads, S, A]
  int64_t group_size;     ///< columns normalized together, as many as the weight has; 0 without a norm
  const float* weight;
  float* rstd;  ///< [B·S, heads·A / group_size]
  float* dweight;
};

template <typename T>
Part<T> part_of(int64_t heads, int64_t column, const Tensor& data, const Tensor& weight, const Tensor& rstd,
                const Tensor& dweight) {
  return {heads,
          column,
          data.as<T>(),
          weight.elements(),
          weight ? weight.as<float>() : nullptr,
          rstd ? rstd.as<float>() : nullptr,
          dweight ? dweight.as<float>() : nullptr};
}

/// Where head h of a token lies in [B, heads, S, A].
int64_t head_offset(const HeadLayout& l, int64_t heads, int64_t token, int64_t h) {
  return ((token / l.tokens * heads + h) * l.tokens + token % l.tokens) * l.head_dim;
}

template <typename T>
void split_part(const SplitHeads& op, const Part<T>& part, int64_t token, const T* row, float* x) {
  const HeadLayout& l = op.layout;
  const int64_t dim = l.head_dim, columns = part.heads * dim;
  convert(row + part.column, columns, x);
  const int64_t groups = part.group_size ? columns / part.group_size : 0;
  for (int64_t g = 0; g < groups; ++g) {
    float* at = x + g * part.group_size;
    const float rstd = rms_rstd(sum_of_squares(at, part.group_size), part.group_size, op.eps);
    part.rstd[token * groups + g] = rstd;
    rms_norm_row(at, part.weight, rstd, part.group_size,
                 [&](int64_t i, int64_t count, vfloat y) { simd::store_up_to(at + i, y, count); });
  }
  const float* rotary = op.rotary.as<float>() + token % l.tokens * l.rotary_dim;
  for (int64_t h = 0; h < part.heads; ++h) {
    rotate<Turn::forward>(x + h * dim, rotary, l.rotary_dim / 2);
    convert(x + h * dim, dim, part.data + head_offset(l, part.heads, token, h));
  }
}

template <typename T>
void split(const SplitHeads& op) {
  const HeadLayout& l = op.layout;
  const int64_t dim = l.head_dim, q_columns = l.heads * dim, kv_columns = l.kv_heads * dim;
  const int64_t row_size = q_columns + 2 * kv_columns;
  const auto q = part_of<T>(l.heads, 0, op.q, op.q_weight, op.q_rstd, {});
  const auto k = part_of<T>(l.kv_heads, q_columns, op.k, op.k_weight, op.k_rstd, {});
  T* v = op.v.as<T>();
  static thread_local Scratch scratch;
  const ThreadBuffers buffers(scratch, q_columns);
  for_blocks(l.sequences * l.tokens, norm_rows, [&](int64_t begin, int64_t end, int64_t) {
    float* x = buffers.mine();
    for (int64_t token = begin; token < end; ++token) {
      const T* row = op.qkv.as<T>() + token * row_size;
      split_part(op, q, token, row, x);
      split_part(op, k, token, row, x);
      for (int64_t h = 0; h < l.kv_heads; ++h) {
        std::copy_n(row + q_columns + kv_columns + h * dim, dim, v + head_offset(l, l.kv_heads, token, h));
      }
    }
  });
}

/// Columns of dqkv from dq or dk. `dweight` is the partial sum of this block of tokens; `dy` and `x` hold a row each.
template <typename T>
void join_part(const SplitHeadsBackward& op, const Part<T>& part, int64_t token, float* dweight, float* dy, float* x,
               T* drow) {
  const HeadLayout& l = op.layout;
  const int64_t dim = l.head_dim, columns = part.heads * dim;
  const float* rotary = op.rotary.as<float>() + token % l.tokens * l.rotary_dim;
  for (int64_t h = 0; h < part.heads; ++h) {
    convert(part.data + head_offset(l, part.heads, token, h), dim, dy + h * dim);
    rotate<Turn::backward>(dy + h * dim, rotary, l.rotary_dim / 2);
  }
  T* target = drow + part.column;
  if (part.group_size == 0) return convert(dy, columns, target);
  const int64_t row_size = (l.heads + 2 * l.kv_heads) * dim, groups = columns / part.group_size;
  convert(op.qkv.as<T>() + token * row_size + part.column, columns, x);
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t at = g * part.group_size;
    rms_norm_backward_row(dy + at, x + at, part.weight, part.rstd[token * groups + g], part.group_size, dweight,
                          [&](int64_t i, int64_t count, vfloat dx) { simd::store_up_to(target + at + i, dx, count); });
  }
}

template <typename T>
void join(const SplitHeadsBackward& op) {
  const HeadLayout& l = op.layout;
  const int64_t dim = l.head_dim, q_columns = l.heads * dim, kv_columns = l.kv_heads * dim;
  const int64_t row_size = q_columns + 2 * kv_columns, tokens = l.sequences * l.tokens;
  const auto q = part_of<T>(l.heads, 0, op.dq, op.q_weight, op.q_rstd, op.dq_weight);
  const auto k = part_of<T>(l.kv_heads, q_columns, op.dk, op.k_weight, op.k_rstd, op.dk_weight);
  const T* dv = op.dv.as<T>();
  static thread_local Scratch rows_scratch, partial_scratch;
  const int64_t buffer_size = blocks_of(q_columns, width) * width;
  const ThreadBuffers buffers(rows_scratch, 2 * buffer_size);
  const int64_t weights = q.group_size + k.group_size, blocks = blocks_of(tokens, norm_rows);
  float* partial = partial_scratch.get<float>(blocks * weights);
  for_blocks(tokens, norm_rows, [&](int64_t begin, int64_t end, int64_t block) {
    float *dy = buffers.mine(), *x = dy + buffer_size, *dweight = partial + block * weights;
    std::fill_n(dweight, weights, 0.0f);
    for (int64_t token = begin; token < end; ++token) {
      T* drow = op.dqkv.as<T>() + token * row_size;
      join_part(op, q, token, dweight, dy, x, drow);
      join_part(op, k, token, dweight + q.group_size, dy, x, drow);
      for (int64_t h = 0; h < l.kv_heads; ++h) {
        std::copy_n(dv + head_offset(l, l.kv_heads, token, h), dim, drow + q_columns + kv_columns + h * dim);
      }
    }
  });
  if (q.dweight) add_partial_sums(partial, blocks, weights, q.group_size, q.dweight);
  if (k.dweight) add_partial_sums(partial + q.group_size, blocks, weights, k.group_size, k.dweight);
}
}  // namespace

void CpuOps::run(const SplitHeads& op) {
  dispatch_act(op.qkv.dtype, [&](auto tag) { split<typename decltype(tag)::type>(op); });
}

void CpuOps::run(const SplitHeadsBackward& op) {
  dispatch_act(op.dqkv.dtype, [&](auto tag) { join<typename decltype(tag)::type>(op); });
}

}  // namespace strand
