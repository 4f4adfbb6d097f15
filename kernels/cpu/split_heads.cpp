// From the fused projection to heads, and back. Forward copies the row of a token to the tensors of the heads and
// rotates it on the way; where there is a norm, the row is first copied to an f32 buffer. Backward does the opposite.
//
// Tokens are taken in runs of 4, so that 4 adjacent rows of a head are written at a time. The heads are S·A elements
// apart, which is often a power of two. If all heads were visited for every single token, cache lines would be evicted
// before they are complete.
#include "kernels/cpu/convert.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/partial_sums.h"
#include "kernels/cpu/rms_norm.h"
#include "kernels/cpu/rotate.h"
#include "kernels/cpu/token_blocks.h"

namespace strand {

namespace {
using simd::vfloat;
using simd::width;

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

constexpr int64_t run_tokens = block_sizes::split_tokens;
struct Run {
  int64_t first, count;  ///< tokens
};

/// body(run) for the runs of tokens [begin, end)
template <typename Body>
void for_runs(int64_t begin, int64_t end, const Body& body) {
  for (int64_t t = begin; t < end; t += run_tokens) body(Run{t, std::min(run_tokens, end - t)});
}

/// Angles of a token's position; a null pointer where nothing is rotated.
const float* angles_of(const HeadLayout& l, const Tensor& rotary, int64_t token) {
  return l.rotary_dim ? rotary.as<float>() + token % l.tokens * l.rotary_dim : nullptr;
}

/// Normalizes the part's columns of one row of the fused projection into x.
template <typename T>
void normalize(const Part<T>& part, int64_t columns, int64_t token, double eps, const T* row, float* x) {
  convert(row, x, columns);
  for (int64_t g = 0; g < columns / part.group_size; ++g) {
    float* at = x + g * part.group_size;
    const float rstd = rms_rstd(sum_of_squares(at, part.group_size), part.group_size, eps);
    part.rstd[token * (columns / part.group_size) + g] = rstd;
    rms_norm_row(at, part.weight, rstd, part.group_size,
                 [&](int64_t c, int64_t count, vfloat y) { simd::store_up_to(at + c, y, count); });
  }
}

/// Rows of `from`, one a token of the run, to heads.
template <typename From, typename T>
void scatter_heads(const HeadLayout& l, const Part<T>& part, Run run, const Tensor& rotary, const From* from,
                   int64_t from_stride) {
  for (int64_t h = 0; h < part.heads; ++h) {
    for (int64_t i = 0; i < run.count; ++i) {
      const int64_t token = run.first + i;
      rotate<Turn::forward>(from + i * from_stride + h * l.head_dim, angles_of(l, rotary, token), l.rotary_dim / 2,
                            l.head_dim, part.data + head_offset(l, part.heads, token, h));
    }
  }
}

/// Heads back to rows.
template <typename T, typename To>
void gather_heads(const HeadLayout& l, const Part<T>& part, Run run, const Tensor& rotary, To* to, int64_t to_stride) {
  for (int64_t h = 0; h < part.heads; ++h) {
    for (int64_t i = 0; i < run.count; ++i) {
      const int64_t token = run.first + i;
      rotate<Turn::backward>(part.data + head_offset(l, part.heads, token, h), angles_of(l, rotary, token),
                             l.rotary_dim / 2, l.head_dim, to + i * to_stride + h * l.head_dim);
    }
  }
}

/// q or k of a run of tokens; `rows` is the fused projection at the run, `x` has room for the part's columns of the
/// run.
template <typename T>
void split_part(const SplitHeads& op, const Part<T>& part, Run run, const T* rows, float* x) {
  const HeadLayout& l = op.layout;
  const int64_t columns = part.heads * l.head_dim, row_size = (l.heads + 2 * l.kv_heads) * l.head_dim;
  if (part.group_size == 0) return scatter_heads(l, part, run, op.rotary, rows + part.column, row_size);
  for (int64_t i = 0; i < run.count; ++i) {
    normalize(part, columns, run.first + i, op.eps, rows + i * row_size + part.column, x + i * columns);
  }
  scatter_heads(l, part, run, op.rotary, x, columns);
}

struct SplitBuffers {
  SplitBuffers(Workspace& memory, const SplitHeads& op)
      : rows(memory, run_tokens * op.layout.heads * op.layout.head_dim) {}
  ThreadBuffers rows;
};

template <typename T>
void split(const SplitHeads& op, const SplitBuffers& buffers) {
  const HeadLayout& l = op.layout;
  const int64_t dim = l.head_dim, q_columns = l.heads * dim, kv_columns = l.kv_heads * dim;
  const int64_t row_size = q_columns + 2 * kv_columns;
  const auto q = part_of<T>(l.heads, 0, op.q, op.q_weight, op.q_rstd, {});
  const auto k = part_of<T>(l.kv_heads, q_columns, op.k, op.k_weight, op.k_rstd, {});
  T* v = op.v.as<T>();
  for_blocks(l.sequences * l.tokens, norm_rows, [&](int64_t begin, int64_t end, int64_t) {
    for_runs(begin, end, [&](Run run) {
      const T* rows = op.qkv.as<T>() + run.first * row_size;
      split_part(op, q, run, rows, buffers.rows.mine());
      split_part(op, k, run, rows, buffers.rows.mine());
      for (int64_t h = 0; h < l.kv_heads; ++h) {
        for (int64_t i = 0; i < run.count; ++i) {
          std::copy_n(rows + i * row_size + q_columns + kv_columns + h * dim, dim,
                      v + head_offset(l, l.kv_heads, run.first + i, h));
        }
      }
    });
  });
}

/// Columns of dqkv of a run of tokens, from dq or dk. `dweight` is the partial sum of this block of tokens; `dy` has
/// room for the part's columns of the run, `x` for those of one token.
template <typename T>
void join_part(const SplitHeadsBackward& op, const Part<T>& part, Run run, float* dweight, float* dy, float* x) {
  const HeadLayout& l = op.layout;
  const int64_t columns = part.heads * l.head_dim, row_size = (l.heads + 2 * l.kv_heads) * l.head_dim;
  const int64_t first = run.first * row_size + part.column;
  if (part.group_size == 0) return gather_heads(l, part, run, op.rotary, op.dqkv.as<T>() + first, row_size);
  gather_heads(l, part, run, op.rotary, dy, columns);
  const int64_t groups = columns / part.group_size;
  for (int64_t i = 0; i < run.count; ++i) {
    convert(op.qkv.as<T>() + first + i * row_size, x, columns);
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t at = g * part.group_size;
      T* target = op.dqkv.as<T>() + first + i * row_size + at;
      rms_norm_backward_row(dy + i * columns + at, x + at, part.weight, part.rstd[(run.first + i) * groups + g],
                            part.group_size, dweight,
                            [&](int64_t c, int64_t count, vfloat dx) { simd::store_up_to(target + c, dx, count); });
    }
  }
}

struct JoinBuffers {
  JoinBuffers(Workspace& memory, const SplitHeadsBackward& op)
      : row_floats(blocks_of(op.layout.heads * op.layout.head_dim, width) * width),
        rows(memory, (run_tokens + 1) * row_floats),
        partial(memory.take<float>(blocks_of(op.layout.sequences * op.layout.tokens, norm_rows) *
                                   (op.q_weight.elements() + op.k_weight.elements()))) {}
  int64_t row_floats;
  ThreadBuffers rows;  ///< [1 + run_tokens, row_floats]
  float* partial;      ///< [blocks, weights of q and k]
};

template <typename T>
void join(const SplitHeadsBackward& op, const JoinBuffers& buffers) {
  const HeadLayout& l = op.layout;
  const int64_t dim = l.head_dim, q_columns = l.heads * dim, kv_columns = l.kv_heads * dim;
  const int64_t row_size = q_columns + 2 * kv_columns, tokens = l.sequences * l.tokens;
  const auto q = part_of<T>(l.heads, 0, op.dq, op.q_weight, op.q_rstd, op.dq_weight);
  const auto k = part_of<T>(l.kv_heads, q_columns, op.dk, op.k_weight, op.k_rstd, op.dk_weight);
  const T* dv = op.dv.as<T>();
  const int64_t weights = q.group_size + k.group_size, blocks = blocks_of(tokens, norm_rows);
  float* const partial = buffers.partial;
  for_blocks(tokens, norm_rows, [&](int64_t begin, int64_t end, int64_t block) {
    float *x = buffers.rows.mine(), *dy = x + buffers.row_floats, *dweight = partial + block * weights;
    std::fill_n(dweight, weights, 0.0f);
    for_runs(begin, end, [&](Run run) {
      join_part(op, q, run, dweight, dy, x);
      join_part(op, k, run, dweight + q.group_size, dy, x);
      T* drows = op.dqkv.as<T>() + run.first * row_size + q_columns + kv_columns;
      for (int64_t h = 0; h < l.kv_heads; ++h) {
        for (int64_t i = 0; i < run.count; ++i) {
          std::copy_n(dv + head_offset(l, l.kv_heads, run.first + i, h), dim, drows + i * row_size + h * dim);
        }
      }
    });
  });
  if (q.dweight) add_partial_sums(partial, blocks, weights, q.group_size, q.dweight);
  if (k.dweight) add_partial_sums(partial + q.group_size, blocks, weights, k.group_size, k.dweight);
}
}  // namespace

void CpuOps::run(const SplitHeads& op) {
  const auto memory = buffers<SplitBuffers>(op);
  dispatch_act(op.qkv.dtype, [&](auto tag) { split<typename decltype(tag)::type>(op, memory); });
}

void CpuOps::run(const SplitHeadsBackward& op) {
  const auto memory = buffers<JoinBuffers>(op);
  dispatch_act(op.dqkv.dtype, [&](auto tag) { join<typename decltype(tag)::type>(op, memory); });
}

size_t CpuWorkspaces::bytes(const SplitHeads& op) const {
  return workspace_bytes<SplitBuffers>(op);
}
size_t CpuWorkspaces::bytes(const SplitHeadsBackward& op) const {
  return workspace_bytes<JoinBuffers>(op);
}

}  // namespace strand
