// Causal attention, forward: one pass over the keys, with a running maximum and a running sum for each query (online
// softmax).
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
  float* rows;                      ///< [64, Ap] queries as they lie
  float* queries;                   ///< [Ap, 64] transposed: q·log2(e)·f/√A
  float* output;                    ///< [Up, 64] transposed, not normalized
  float* scores;                    ///< [64 keys, 64 queries], then probabilities
  float *maximum, *total, *factor;  ///< [64]
  float *keys, *values;             ///< [64, A], [64, U] widened, when act is not f32

  Tiles(Pieces& pieces, const HeadLayout& l)
      : rows(pieces.take(block * padded(l.head_dim))),
        queries(pieces.take(block * padded(l.head_dim))),
        output(pieces.take(block * padded(l.value_width()))),
        scores(pieces.take(block * block)),
        maximum(pieces.take(block)),
        total(pieces.take(block)),
        factor(pieces.take(block)),
        keys(pieces.take(block * l.head_dim)),
        values(pieces.take(block * l.value_width())) {}
};

/// Turns the scores of one vector of queries and `keys` keys into probabilities relative to the new running maximum.
/// The older sums have to be multiplied by `factor`.
void softmax_lanes(const Tiles& t, int64_t vector, int64_t keys) {
  using namespace simd;
  float* column = t.scores + vector * width;
  const vfloat old_maximum = load(t.maximum + vector * width);
  vfloat m[4] = {old_maximum, old_maximum, old_maximum, old_maximum};
  int64_t k = 0;
  for (; k + 4 <= keys; k += 4) {
    for (int i = 0; i < 4; ++i) m[i] = max(m[i], load(column + (k + i) * block));
  }
  for (; k < keys; ++k) m[0] = max(m[0], load(column + k * block));
  const vfloat maximum = max(max(m[0], m[1]), max(m[2], m[3]));
  vfloat total = {};
  for (k = 0; k < keys; ++k) {
    const vfloat p = exp2_nonpositive(load(column + k * block) - maximum);
    store(column + k * block, p);
    total += p;
  }
  const vfloat factor = exp2_nonpositive(old_maximum - maximum);
  store(t.factor + vector * width, factor);
  store(t.maximum + vector * width, maximum);
  store(t.total + vector * width, load(t.total + vector * width) * factor + total);
}

/// Sets the scores of keys that come after their query to −∞, in the squares on the diagonal.
void mask_diagonal(float* scores, int64_t keys) {
  for (int64_t k = 0; k < keys; ++k) {
    float* square = scores + k * block + k / width * width;
    simd::store(square, simd::select(before(k % width), simd::splat(-std::numeric_limits<float>::infinity()),
                                     simd::load(square)));
  }
}

/// Adds one block of keys and values to the running softmax.
void attend(const Tiles& t, const float* keys, const float* values, const HeadLayout& l, bool diagonal, int64_t count) {
  const int64_t value_dim = l.value_width();
  scores(keys, l.head_dim, t.queries, diagonal, count, t.scores);
  if (diagonal) mask_diagonal(t.scores, count);
  for (int64_t v = 0; v < block_vectors; ++v) {
    softmax_lanes(t, v, diagonal ? std::min(count, (v + 1) * width) : count);
  }
  for_each_band(diagonal, count, [&](const Band& band) {
    const int64_t column = band.first_vector * width;
    const TileA a{values + band.first_key * value_dim, 1, value_dim};
    const TileB b{t.scores + band.first_key * block + column, block};
    const TileC c{t.output + column, block, t.factor + column};
    const int64_t vectors = block_vectors - band.first_vector;
    if (band.first_key == 0) {
      tile_gemm<TileUpdate::scale_and_add>(a, b, c, value_dim, vectors, band.rows);
    } else {
      tile_gemm<TileUpdate::add>(a, b, c, value_dim, vectors, band.rows);
    }
  });
}

/// Computes one block of queries of one head. q, k and v point to the head's first row, and out to the head's columns
/// in the first row of the sequence.
template <typename T>
void query_block(const Tiles& t, const HeadLayout& l, int64_t index, const T* q, const T* k, const T* v, T* out,
                 float* lse) {
  const int64_t dim = l.head_dim, value_dim = l.value_width();
  const int64_t first = index * block, queries = std::min(block, l.tokens - first);
  pack_rows(q + first * dim, dim, queries, dim, t.rows);
  transpose_rows(t.rows, padded(dim), score_scale(l, log2_e), t.queries);
  std::fill_n(t.output, padded(value_dim) * block, 0.0f);
  std::fill_n(t.maximum, block, -std::numeric_limits<float>::infinity());
  std::fill_n(t.total, block, 0.0f);
  for (int64_t j = 0; j <= index; ++j) {
    const int64_t row = j * block, count = std::min(block, l.tokens - row);
    attend(t, widened(k + row * dim, count * dim, t.keys), widened(v + row * value_dim, count * value_dim, t.values), l,
           j == index, count);
  }
  for (int64_t i = 0; i < queries; ++i) lse[first + i] = t.maximum[i] * ln_2 + std::log(t.total[i]);
  for (int64_t i = 0; i < block; ++i) t.factor[i] = 1.0f / t.total[i];
  const int64_t stride = l.heads * value_dim;
  unpack_columns(t.output, t.factor, queries, value_dim, out + first * stride, stride);
}

struct Buffers {
  Buffers(Workspace& memory, const Attention& op) : tiles(memory, tile_floats(op.layout)) {}
  ThreadBuffers tiles;

 private:
  static int64_t tile_floats(const HeadLayout& l) {
    Pieces size;
    Tiles(size, l);
    return size.used();
  }
};

template <typename T>
void forward(const Attention& op, const Buffers& buffers) {
  const HeadLayout& l = op.layout;
  const int64_t blocks = blocks_of(l.tokens, block), group = l.heads / l.kv_heads;
  const int64_t head_size = l.tokens * l.head_dim, value_dim = l.value_width(), value_size = l.tokens * value_dim;
#pragma omp parallel
  {
    Pieces pieces(buffers.tiles.mine());
    const Tiles tiles(pieces, l);
    // Items are ordered by head, so that keys and values stay in the cache, and within a head the later blocks, which
    // cost more, come first.
#pragma omp for schedule(dynamic)
    for (int64_t item = 0; item < l.sequences * l.heads * blocks; ++item) {
      const int64_t head = item / blocks;  // of all sequences
      const int64_t kv = head / group;     // B·H heads over B·G: the sequence drops out
      const int64_t sequence = head / l.heads;
      T* out = op.out.as<T>() + sequence * l.tokens * l.heads * value_dim + head % l.heads * value_dim;
      query_block(tiles, l, blocks - 1 - item % blocks, op.q.as<T>() + head * head_size, op.k.as<T>() + kv * head_size,
                  op.v.as<T>() + kv * value_size, out, op.lse.as<float>() + head * l.tokens);
    }
  }
}
}  // namespace

void CpuOps::run(const Attention& op) {
  const auto memory = buffers<Buffers>(op);
  dispatch_act(op.q.dtype, [&](auto tag) { forward<typename decltype(tag)::type>(op, memory); });
}

size_t CpuWorkspaces::bytes(const Attention& op) const {
  return workspace_bytes<Buffers>(op);
}

}  // namespace strand
