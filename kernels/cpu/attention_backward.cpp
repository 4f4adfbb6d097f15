// Causal attention, backward. It goes through the blocks of queries, and for each through the blocks of keys that it
// saw. dQ of the block of queries is complete after that. dK and dV are summed in f32 over all query heads of their
// group, in the order of (head, block of queries).
//
// A work item is one key/value head of one sequence. When the items cannot be shared evenly among the threads, the
// blocks of queries of an item are divided into parts of equal cost. Each part has sums of its own, which a second pass
// adds in order. The division depends on the shapes and the number of threads only.
#include <omp.h>

#include <cmath>
#include <limits>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/dispatch.h"

namespace strand {

namespace {
using namespace attention;
using simd::vfloat;
using simd::width;

/// The buffers in which one thread works on one block of queries.
struct Tiles {
  float *query_rows, *dout_rows;        ///< [64, Ap]
  float *queries, *dout;                ///< [Ap, 64] transposed; queries times log2(e)/√A
  float *probabilities, *dscores;       ///< [64 keys, 64 queries]
  float* dqueries;                      ///< [Ap, 64]
  float *lse, *delta, *dqueries_scale;  ///< [64]; lse in units of log 2

  Tiles(Pieces& pieces, int64_t head_dim)
      : query_rows(pieces.take(block * padded(head_dim))),
        dout_rows(pieces.take(block * padded(head_dim))),
        queries(pieces.take(block * padded(head_dim))),
        dout(pieces.take(block * padded(head_dim))),
        probabilities(pieces.take(block * block)),
        dscores(pieces.take(block * block)),
        dqueries(pieces.take(block * padded(head_dim))),
        lse(pieces.take(block)),
        delta(pieces.take(block)),
        dqueries_scale(pieces.take(block)) {}
};

/// Sums of one part of one key/value head, [S, Ap] each.
struct KeySums {
  float *dk, *dv;
};

/// The scores of the tile become probabilities, and dP^T becomes dS^T = P (dP − Δ).
void softmax_backward(const Tiles& t, bool diagonal, int64_t keys) {
  using namespace simd;
  for (int64_t v = 0; v < block_vectors; ++v) {
    const vfloat lse = load(t.lse + v * width), delta = load(t.delta + v * width);
    const int64_t seen = diagonal ? std::min(keys, (v + 1) * width) : keys;
    const int64_t whole = diagonal ? std::min(keys, v * width) : keys;
    float* p_at = t.probabilities + v * width;
    float* d_at = t.dscores + v * width;
    int64_t k = 0;
    for (; k < whole; ++k, p_at += block, d_at += block) {
      const vfloat p = exp2_nonpositive(load(p_at) - lse);
      store(p_at, p);
      store(d_at, p * (load(d_at) - delta));
    }
    for (; k < seen; ++k, p_at += block, d_at += block) {
      const vint masked = before(k % width);
      const vfloat p = select(masked, vfloat{}, exp2_nonpositive(load(p_at) - lse));
      store(p_at, p);
      store(d_at, select(masked, vfloat{}, p * (load(d_at) - delta)));
    }
  }
}

/// sums [keys, Ap] += weights [keys, queries] · rows [queries, Ap], over the queries that see the keys.
void add_to_keys(const float* weights, const float* rows, int64_t wide, bool diagonal, int64_t keys, int64_t queries,
                 float* sums) {
  for_each_band(diagonal, keys, [&](const Band& band) {
    const int64_t query = band.first_vector * width;
    tile_gemm<TileUpdate::add>({weights + band.first_key * block + query, block, 1}, {rows + query * wide, wide},
                               {sums + band.first_key * wide, wide}, band.rows, wide / width, queries - query);
  });
}

/// One block of queries against one block of keys.
void pair_of_blocks(const Tiles& t, const float* keys, const float* values, int64_t head_dim, bool diagonal,
                    int64_t key_count, int64_t query_count, KeySums sums) {
  const int64_t wide = padded(head_dim);
  scores(keys, head_dim, t.queries, diagonal, key_count, t.probabilities);
  scores(values, head_dim, t.dout, diagonal, key_count, t.dscores);
  softmax_backward(t, diagonal, key_count);
  add_to_keys(t.probabilities, t.dout_rows, wide, diagonal, key_count, query_count, sums.dv);
  add_to_keys(t.dscores, t.query_rows, wide, diagonal, key_count, query_count, sums.dk);
  for_each_band(diagonal, key_count, [&](const Band& band) {
    const int64_t column = band.first_vector * width;
    tile_gemm<TileUpdate::add>({keys + band.first_key * head_dim, 1, head_dim},
                               {t.dscores + band.first_key * block + column, block}, {t.dqueries + column, block},
                               head_dim, block_vectors - band.first_vector, band.rows);
  });
}

/// The tensors of one query head, at its first row; out and dout at its columns, rows H·A apart.
template <typename T>
struct Head {
  const T *q, *out, *dout;
  T* dq;
  const float* lse;
  float* delta;
};

template <typename T>
void pack_queries(const Tiles& t, const HeadLayout& l, const Head<T>& head, int64_t first, int64_t queries) {
  const int64_t dim = l.head_dim, wide = padded(dim), stride = l.heads * dim;
  // The buffer of dQ^T holds the output for a moment, to compute Δ.
  pack_rows(head.dout + first * stride, stride, queries, dim, t.dout_rows);
  pack_rows(head.out + first * stride, stride, queries, dim, t.dqueries);
  for (int64_t i = 0; i < block; ++i) {
    vfloat dot = {};
    for (int64_t c = 0; c < wide; c += width) {
      dot += simd::load(t.dout_rows + i * wide + c) * simd::load(t.dqueries + i * wide + c);
    }
    t.delta[i] = simd::sum(dot);
    t.lse[i] = i < queries ? head.lse[first + i] * log2_e : 0.0f;
  }
  std::copy_n(t.delta, queries, head.delta + first);
  pack_rows(head.q + first * dim, dim, queries, dim, t.query_rows);
  transpose_rows(t.query_rows, wide, log2_e / std::sqrt(static_cast<float>(dim)), t.queries);
  transpose_rows(t.dout_rows, wide, 1.0f, t.dout);
  std::fill_n(t.dqueries, wide * block, 0.0f);
  std::fill_n(t.dqueries_scale, block, 1.0f / std::sqrt(static_cast<float>(dim)));
}

template <typename T>
void query_block(const Tiles& t, const HeadLayout& l, const Head<T>& head, const float* keys, const float* values,
                 int64_t index, KeySums sums) {
  const int64_t dim = l.head_dim, first = index * block, queries = std::min(block, l.tokens - first);
  pack_queries(t, l, head, first, queries);
  for (int64_t j = 0; j <= index; ++j) {
    const int64_t row = j * block, at = row * padded(dim);
    pair_of_blocks(t, keys + row * dim, values + row * dim, dim, j == index, std::min(block, l.tokens - row), queries,
                   {sums.dk + at, sums.dv + at});
  }
  unpack_columns(t.dqueries, t.dqueries_scale, queries, dim, head.dq + first * dim, dim);
}

/// dk or dv [S, A] = scale · the sum over parts, `part_stride` floats apart, of sums [S, Ap]; in order.
template <typename T>
void write_sums(const float* sums, int64_t parts, int64_t part_stride, float scale, int64_t tokens, int64_t head_dim,
                T* to) {
  const int64_t wide = padded(head_dim);
  for (int64_t r = 0; r < tokens; ++r) {
    for (int64_t c = 0; c < head_dim; c += width) {
      const float* from = sums + r * wide + c;
      vfloat total = simd::load(from);
      for (int64_t p = 1; p < parts; ++p) total += simd::load(from + p * part_stride);
      simd::store_up_to(to + r * head_dim + c, scale * total, head_dim - c);
    }
  }
}

/// How the work is divided: into the key/value heads of all sequences, and each of these into parts of its units, which
/// are pairs of a query head and a block of queries.
struct Partition {
  int64_t kv_heads, parts, blocks, units;

  Partition(const HeadLayout& l, int64_t threads)
      : kv_heads(l.sequences * l.kv_heads), blocks(blocks_of(l.tokens, block)), units(l.heads / l.kv_heads * blocks) {
    const bool even = kv_heads % threads == 0 || kv_heads >= block_sizes::whole_heads_per_thread * threads;
    parts = even ? 1 : std::min(units, (4 * threads + kv_heads - 1) / kv_heads);
  }
  /// First unit of a part: unit u costs u mod blocks + 1 pairs of blocks.
  int64_t begin(int64_t part) const {
    if (part == parts) return units;
    const int64_t whole = blocks * (blocks + 1) / 2;
    const int64_t wanted = whole * (units / blocks) * part / parts;
    int64_t unit = wanted / whole * blocks;
    for (int64_t cost = wanted / whole * whole; cost < wanted; ++unit) cost += unit % blocks + 1;
    return unit;
  }
};

struct Buffers {
  Buffers(Workspace& memory, const AttentionBackward& op)
      : Buffers(memory, op, Partition(op.layout, omp_get_max_threads())) {}
  ThreadBuffers worker;
  float* part_sums;  ///< [key/value heads, parts, 2, S, Ap]; none where no head is cut into parts

 private:
  Buffers(Workspace& memory, const AttentionBackward& op, const Partition& cut)
      : worker(memory, worker_floats(op, cut)),
        part_sums(memory.take<float>(cut.parts == 1 ? 0 : cut.kv_heads * cut.parts * 2 * sums_floats(op.layout))) {}

  static int64_t sums_floats(const HeadLayout& l) { return l.tokens * padded(l.head_dim); }
  static int64_t worker_floats(const AttentionBackward& op, const Partition& cut) {
    const HeadLayout& l = op.layout;
    Pieces size;
    Tiles(size, l.head_dim);
    const int64_t widened = op.q.dtype == DType::f32 ? 0 : l.tokens * l.head_dim;
    return size.used() + 2 * (widened + width) + (cut.parts == 1 ? 2 * (sums_floats(l) + width) : 0);
  }
};

template <typename T>
Head<T> head_at(const AttentionBackward& op, int64_t head) {
  const HeadLayout& l = op.layout;
  const int64_t at = head * l.tokens * l.head_dim;
  const int64_t column = head / l.heads * l.tokens * l.heads * l.head_dim + head % l.heads * l.head_dim;
  return {op.q.as<T>() + at,
          op.out.as<T>() + column,
          op.dout.as<T>() + column,
          op.dq.as<T>() + at,
          op.lse.as<float>() + head * l.tokens,
          op.delta.as<float>() + head * l.tokens};
}

template <typename T>
void backward(const AttentionBackward& op, const Buffers& buffers) {
  const HeadLayout& l = op.layout;
  const Partition cut(l, omp_get_max_threads());
  const int64_t dim = l.head_dim, kv_size = l.tokens * dim, sums_size = l.tokens * padded(dim);
  const int64_t group = l.heads / l.kv_heads, widened_size = needs_widening<T> ? kv_size : 0;
  const float dk_scale = 1.0f / std::sqrt(static_cast<float>(dim));
  float* const part_sums = buffers.part_sums;

#pragma omp parallel
  {
    Pieces pieces(buffers.worker.mine());
    const Tiles tiles(pieces, dim);
    float *wide_keys = pieces.take(widened_size), *wide_values = pieces.take(widened_size);
    float* own_sums = cut.parts == 1 ? pieces.take(2 * sums_size) : nullptr;
#pragma omp for schedule(dynamic)
    for (int64_t item = 0; item < cut.kv_heads * cut.parts; ++item) {
      const int64_t kv = item / cut.parts, part = item % cut.parts;
      float* dk = own_sums ? own_sums : part_sums + item * 2 * sums_size;
      const KeySums sums{dk, dk + sums_size};
      std::fill_n(dk, 2 * sums_size, 0.0f);
      const float* keys = widened(op.k.as<T>() + kv * kv_size, kv_size, wide_keys);
      const float* values = widened(op.v.as<T>() + kv * kv_size, kv_size, wide_values);
      for (int64_t unit = cut.begin(part); unit < cut.begin(part + 1); ++unit) {
        query_block(tiles, l, head_at<T>(op, kv * group + unit / cut.blocks), keys, values, unit % cut.blocks, sums);
      }
      if (own_sums) {
        write_sums(sums.dk, 1, 0, dk_scale, l.tokens, dim, op.dk.as<T>() + kv * kv_size);
        write_sums(sums.dv, 1, 0, 1.0f, l.tokens, dim, op.dv.as<T>() + kv * kv_size);
      }
    }
    if (cut.parts > 1) {
#pragma omp for schedule(static) collapse(2)
      for (int64_t kv = 0; kv < cut.kv_heads; ++kv) {
        for (int64_t b = 0; b < cut.blocks; ++b) {
          const int64_t row = b * block, rows = std::min(block, l.tokens - row);
          const float* dk = part_sums + kv * cut.parts * 2 * sums_size + row * padded(dim);
          const int64_t to = kv * kv_size + row * dim;
          write_sums(dk, cut.parts, 2 * sums_size, dk_scale, rows, dim, op.dk.as<T>() + to);
          write_sums(dk + sums_size, cut.parts, 2 * sums_size, 1.0f, rows, dim, op.dv.as<T>() + to);
        }
      }
    }
  }
}
}  // namespace

void CpuOps::run(const AttentionBackward& op) {
  const auto memory = buffers<Buffers>(op);
  dispatch_act(op.q.dtype, [&](auto tag) { backward<typename decltype(tag)::type>(op, memory); });
}

size_t CpuWorkspaces::bytes(const AttentionBackward& op) const {
  return workspace_bytes<Buffers>(op);
}

}  // namespace strand
