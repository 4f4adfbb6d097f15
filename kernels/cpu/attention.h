#pragma once
// What forward and backward attention share: block sizes and the packing of a block of queries.
//
// Both compute S^T, the scores of a block of keys (rows) and a block of queries (the lanes of vectors). So the
// statistics of the softmax are vectors over queries, and nothing is summed across lanes. Keys and values are read from
// the tensors and broadcast, for any head width; only queries are packed. On the diagonal, squares of 16 x 16 that lie
// wholly above it are skipped.
//
// After Dao et al. 2022 (FlashAttention, arXiv 2205.14135). Scores are kept in units of log 2, so that an exponential
// is one exp2.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/cpu/simd.h"
#include "kernels/cpu/tile_gemm.h"
#include "kernels/cpu/token_blocks.h"
#include "kernels/ops/attention.h"

namespace strand::attention {

constexpr int64_t block = block_sizes::attention;
constexpr int64_t block_vectors = block / simd::width;
constexpr float log2_e = 1.44269504f;
constexpr float ln_2 = 0.693147181f;

inline int64_t padded(int64_t head_dim) {
  return (head_dim + simd::width - 1) / simd::width * simd::width;
}

/// numerator · f / √A
inline float score_scale(const HeadLayout& l, float numerator) {
  return numerator / std::sqrt(static_cast<float>(l.head_dim)) * static_cast<float>(l.score_factor);
}

/// Hands out consecutive pieces of a buffer, each of which begins on a cache line. Without a buffer it only counts.
class Pieces {
 public:
  explicit Pieces(float* base = nullptr) : base_(base) {}
  float* take(int64_t floats) {
    float* piece = base_ ? base_ + used_ : nullptr;
    used_ += padded(floats);
    return piece;
  }
  int64_t used() const { return used_; }

 private:
  float* base_;
  int64_t used_ = 0;
};

/// Copies up to 64 rows of one head to f32 rows [64, padded(A)]. Rows and columns that do not exist are zero.
template <typename T>
void pack_rows(const T* from, int64_t from_stride, int64_t rows, int64_t head_dim, float* to) {
  using namespace simd;
  const int64_t wide = padded(head_dim);
  const int64_t whole = head_dim / width * width;
  for (int64_t r = 0; r < rows; ++r) {
    const T* source = from + r * from_stride;
    float* target = to + r * wide;
    for (int64_t c = 0; c < whole; c += width) store(target + c, load(source + c));
    if (whole < wide) store(target + whole, load_partial(source + whole, head_dim - whole));
  }
  std::fill(to + rows * wide, to + block * wide, 0.0f);
}

/// to [padded(A), 64] = scale · the transpose of from [64, padded(A)]
inline void transpose_rows(const float* from, int64_t wide, float scale, float* to) {
  using namespace simd;
  for (int64_t r = 0; r < block; r += width) {
    for (int64_t c = 0; c < wide; c += width) {
      vfloat tile[width];
      for (int i = 0; i < width; ++i) tile[i] = scale * load(from + (r + i) * wide + c);
      transpose(tile);
      for (int i = 0; i < width; ++i) store(to + (c + i) * block + r, tile[i]);
    }
  }
}

/// Writes the first `rows` columns of from [padded(A), 64], each times its scale, as rows of `to`.
template <typename T>
void unpack_columns(const float* from, const float* scale, int64_t rows, int64_t head_dim, T* to, int64_t to_stride) {
  using namespace simd;
  for (int64_t r = 0; r < rows; r += width) {
    const vfloat column_scale = load(scale + r);
    const int64_t height = std::min<int64_t>(width, rows - r);
    for (int64_t c = 0; c < head_dim; c += width) {
      vfloat tile[width];
      for (int i = 0; i < width; ++i) tile[i] = load(from + (c + i) * block + r) * column_scale;
      transpose(tile);
      const int64_t n = std::min<int64_t>(width, head_dim - c);
      for (int64_t i = 0; i < height; ++i) {
        store_up_to(to + (r + i) * to_stride + c, tile[i], n);
      }
    }
  }
}

/// Returns `count` elements of keys or values as f32: the tensor itself, or a copy of it, widened, in `buffer`.
inline const float* widened(const float* from, int64_t /*count*/, float* /*buffer*/) {
  return from;
}
inline const float* widened(const bf16* from, int64_t count, float* buffer) {
  using namespace simd;
  int64_t i = 0;
  for (; i + width <= count; i += width) store(buffer + i, load(from + i));
  for (; i < count; ++i) buffer[i] = static_cast<float>(from[i]);
  return buffer;
}
template <typename T>
constexpr bool needs_widening = !std::is_same_v<T, float>;

/// A mask of the lanes before lane `row`: in a 16 x 16 square on the diagonal, the queries that may not see key `row`.
inline simd::vint before(int64_t row) {
  constexpr int32_t numbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  simd::vint lane;
  std::memcpy(&lane, numbers, sizeof lane);
  return lane < static_cast<int32_t>(row);
}

/// The part of a block of `keys` keys that at least one query of the block sees, as up to four bands of keys. Band s
/// holds the keys [16 s, 16 s + rows) and the vectors of queries from `first_vector` on. A block off the diagonal has
/// one band.
struct Band {
  int64_t first_key, rows, first_vector;
};
template <typename Body>
void for_each_band(bool diagonal, int64_t keys, const Body& body) {
  if (!diagonal) return body(Band{0, keys, 0});
  for (int64_t k = 0; k < keys; k += simd::width) {
    body(Band{k, std::min<int64_t>(simd::width, keys - k), k / simd::width});
  }
}

/// out [keys, 64] = rows · packed, band by band. It gives S^T from keys and packed queries, and dP^T from values and
/// packed dO.
inline void scores(const float* rows, int64_t head_dim, const float* packed, bool diagonal, int64_t keys, float* out) {
  for_each_band(diagonal, keys, [&](const Band& band) {
    const int64_t column = band.first_vector * simd::width;
    tile_gemm<TileUpdate::overwrite>({rows + band.first_key * head_dim, head_dim, 1}, {packed + column, block},
                                     {out + band.first_key * block + column, block}, band.rows,
                                     block_vectors - band.first_vector, head_dim);
  });
}

}  // namespace strand::attention
