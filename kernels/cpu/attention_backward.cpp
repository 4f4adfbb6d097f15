// Causal attention, backward. It goes through the blocks of queries, and for each through the blocks of keys that it
// saw. dQ of the block of queries is complete after that. dK and dV are summed in f32 over all query heads of their
// group, in the order of (head, block of queries).
//
// A work item is one key/value head of one sequence. When the items cannot be shared evenly among the threads, the
// blocks of queries of an item are divided into parts of equal cost. Each part has sums of its own, which a second pass
// adds in order. The division depends on the shapes and the number of threads only.
#include <omp.h>

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
  float *query_rows, *dout_rows;        ///< [64, Ap], [64, Up]
  float *queries, *dout;                ///< [Ap, 64], [Up, 64] transposed; queries times log2(e)·f/√A
  float *probabilities, *dscores;       ///< [64 keys, 64 queries]
  float* dqueries;                      ///< [Ap, 64]; before that, the output [64, Up]
  float *lse, *delta, *dqueries_scale;  ///< [64]; lse in units of log 2

  Tiles(Pieces& pieces, const HeadLayout& l)
      : query_rows(pieces.take(block * padded(l.head_dim))),
        dout_rows(pieces.take(block * padded(l.value_width()))),
        queries(pieces.take(block * padded(l.head_dim))),
        dout(pieces.take(block * padded(l.value_width()))),
        probabilities(pieces.take(block * block)),
        dscores(pieces.take(block * block)),
        dqueries(pieces.take(block * padded(std::max(l.head_dim, l.value_width())))),
        lse(pieces.take(block)),
        delta(pieces.take(block)),
        dqueries_scale(pieces.take(block)) {}
};

/// Sums of one part of one key/value head, [S, Ap] and [S, Up].
struct KeySums {
  float *dk, *dv;
};

/// Turns the scores of the tile into probabilities, and dP^T into dS^T = P (dP − Δ).
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
void pair_of_blocks(const Tiles& t, const HeadLayout& l, const float* keys, const float* values, bool diagonal,
                    int64_t key_count, int64_t query_count, KeySums sums) {
  const int64_t head_dim = l.head_dim, value_dim = l.value_width();
  scores(keys, head_dim, t.queries, diagonal, key_count, t.probabilities);
  scores(values, value_dim, t.dout, diagonal, key_count, t.dscores);
  softmax_backward(t, diagonal, key_count);
  add_to_keys(t.probabilities, t.dout_rows, padded(value_dim), diagonal, key_count, query_count, sums.dv);
  add_to_keys(t.dscores, t.query_rows, padded(head_dim), diagonal, key_count, query_count, sums.dk);
  for_each_band(diagonal, key_count, [&](const Band& band) {
    const int64_t column = band.first_vector * width;
    tile_gemm<TileUpdate::add>({keys + band.first_key * head_dim, 1, head_dim},
                               {t.dscores + band.first_key * block + column, block}, {t.dqueries + column, block},
                               head_dim, block_vectors - band.first_vector, band.rows);
  });
}

/// Where the tensors of one query head begin. Rows of out and dout lie H·U elements apart.
template <typename T>
struct Head {
  const T *q, *out, *dout;
  T* dq;
  const float* lse;
  float* delta;
};

template <typename T>
void pack_queries(const Tiles& t, const HeadLayout& l, const Head<T>& head, int64_t first, int64_t queries) {
  const int64_t dim = l.head_dim, value_dim = l.value_width(), wide = padded(value_dim);
  const int64_t stride = l.heads * value_dim;
  // The buffer of dQ^T holds the output for a moment, to compute Δ.
  pack_rows(head.dout + first * stride, stride, queries, value_dim, t.dout_rows);
  pack_rows(head.out + first * stride, stride, queries, value_dim, t.dqueries);
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
  transpose_rows(t.query_rows, padded(dim), score_scale(l, log2_e), t.queries);
  transpose_rows(t.dout_rows, wide, 1.0f, t.dout);
  std::fill_n(t.dqueries, padded(dim) * block, 0.0f);
  std::fill_n(t.dqueries_scale, block, score_scale(l, 1.0f));
}

template <typename T>
void query_block(const Tiles& t, const HeadLayout& l, const Head<T>& head, const float* keys, const float* values,
                 int64_t index, KeySums sums) {
  const int64_t dim = l.head_dim, value_dim = l.value_width();
  const int64_t first = index * block, queries = std::min(block, l.tokens - first);
  pack_queries(t, l, head, first, queries);
  for (int64_t j = 0; j <= index; ++j) {
    const int64_t row = j * block;
    pair_of_blocks(t, l, keys + row * dim, values + row * value_dim, j == index, std::min(block, l.tokens - row),
                   queries, {sums.dk + row * padded(dim), sums.dv + row * padded(value_dim)});
  }
  unpack_columns(t.dqueries, t.dqueries_scale, queries, dim, head.dq + first * dim, dim);
}

/// dk or dv [S, dim] = scale · the sum over parts, `part_stride` floats apart, of sums [S, padded(dim)]; in order.
template <typename T>
void write_sums(const float* sums, int64_t parts, int64_t part_stride, float scale, int64_t tokens, int64_t dim,
                T* to) {
  const int64_t wide = padded(dim);
  for (int64_t r = 0; r < tokens; ++r) {
    for (int64_t c = 0; c < dim; c += width) {
      const float* from = sums + r * wide + c;
      vfloat total = simd::load(from);
      for (int64_t p = 1; p < parts; ++p) total += simd::load(from + p * part_stride);
      simd::store_up_to(to + r * dim + c, scale * total, dim - c);
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
  /// The first unit of a part. Unit u costs u mod blocks + 1 pairs of blocks.
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
  float* part_sums;  ///< [key/value heads, parts, S · (Ap + Up)]: dk, then dv; nullptr where no head is cut into parts

 private:
  Buffers(Workspace& memory, const AttentionBackward& op, const Partition& cut)
      : worker(memory, worker_floats(op, cut)),
        part_sums(memory.take<float>(cut.parts == 1 ? 0 : cut.kv_heads * cut.parts * sums_floats(op.layout))) {}

  static int64_t sums_floats(const HeadLayout& l) { return l.tokens * (padded(l.head_dim) + padded(l.value_width())); }
  static int64_t worker_floats(const AttentionBackward& op, const Partition& cut) {
    const HeadLayout& l = op.layout;
    Pieces size;
    Tiles(size, l);
    const int64_t widened = op.q.dtype == DType::f32 ? 0 : l.tokens * (l.head_dim + l.value_width());
    return size.used() + widened + 2 * width + (cut.parts == 1 ? sums_floats(l) + width : 0);
  }
};

template <typename T>
Head<T> head_at(const AttentionBackward& op, int64_t head) {
  const HeadLayout& l = op.layout;
  const int64_t at = head * l.tokens * l.head_dim;
  const int64_t column = (head / l.heads * l.tokens * l.heads + head % l.heads) * l.value_width();
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
  const int64_t dim = l.head_dim, value_dim = l.value_width(), group = l.heads / l.kv_heads;
  const int64_t key_size = l.tokens * dim, value_size = l.tokens * value_dim;
  const int64_t dk_size = l.tokens * padded(dim), sums_size = dk_size + l.tokens * padded(value_dim);
  const float dk_scale = score_scale(l, 1.0f);
  float* const part_sums = buffers.part_sums;

#pragma omp parallel
  {
    Pieces pieces(buffers.worker.mine());
    const Tiles tiles(pieces, l);
    float* wide_keys = pieces.take(needs_widening<T> ? key_size : 0);
    float* wide_values = pieces.take(needs_widening<T> ? value_size : 0);
    float* own_sums = cut.parts == 1 ? pieces.take(sums_size) : nullptr;
#pragma omp for schedule(dynamic)
    for (int64_t item = 0; item < cut.kv_heads * cut.parts; ++item) {
      const int64_t kv = item / cut.parts, part = item % cut.parts;
      float* dk = own_sums ? own_sums : part_sums + item * sums_size;
      const KeySums sums{dk, dk + dk_size};
      std::fill_n(dk, sums_size, 0.0f);
      const float* keys = widened(op.k.as<T>() + kv * key_size, key_size, wide_keys);
      const float* values = widened(op.v.as<T>() + kv * value_size, value_size, wide_values);
      for (int64_t unit = cut.begin(part); unit < cut.begin(part + 1); ++unit) {
        query_block(tiles, l, head_at<T>(op, kv * group + unit / cut.blocks), keys, values, unit % cut.blocks, sums);
      }
      if (own_sums) {
        write_sums(sums.dk, 1, 0, dk_scale, l.tokens, dim, op.dk.as<T>() + kv * key_size);
        write_sums(sums.dv, 1, 0, 1.0f, l.tokens, value_dim, op.dv.as<T>() + kv * value_size);
      }
    }
    if (cut.parts > 1) {
#pragma omp for schedule(static) collapse(2)
      for (int64_t kv = 0; kv < cut.kv_heads; ++kv) {
        for (int64_t b = 0; b < cut.blocks; ++b) {
          const int64_t row = b * block, rows = std::min(block, l.tokens - row);
          const float* dk = part_sums + kv * cut.parts * sums_size;
          write_sums(dk + row * padded(dim), cut.parts, sums_size, dk_scale, rows, dim,
                     op.dk.as<T>() + kv * key_size + row * dim);
          write_sums(dk + dk_size + row * padded(value_dim), cut.parts, sums_size, 1.0f, rows, value_dim,
                     op.dv.as<T>() + kv * value_size + row * value_dim);
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
