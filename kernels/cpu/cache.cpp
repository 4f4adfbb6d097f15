// Attention over a prefix cache. A task is one token and one key/value head, with all query heads that share that head,
// so that keys and values are read from memory once; or with some of them, where there are fewer tasks than threads.
// There are few queries and many keys, so the lanes of vectors are
// elements of a head: scores are dot products, and outputs are sums of rows of values.
#include <omp.h>

#include <cmath>
#include <limits>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/token_blocks.h"

namespace strand {

namespace {
using simd::vfloat;
using simd::width;

constexpr float log2_e = 1.44269504f;
constexpr int64_t key_block = block_sizes::cached_keys;

/// The sequences and positions of the tokens of a batch in the cache.
struct Places {
  const int32_t *sequence, *position;
  explicit Places(const CachePlaces& places)
      : sequence(places.sequence.as<int32_t>()), position(places.position.as<int32_t>()) {}
};

/// Row of a token and head in [B, heads, S].
int64_t head_row(const HeadLayout& l, int64_t heads, int64_t token, int64_t head) {
  return (token / l.tokens * heads + head) * l.tokens + token % l.tokens;
}

template <typename T>
void append(const CacheAppend& op) {
  const HeadLayout& l = op.layout;
  const Places places(op.places);
  const int64_t positions = op.keys.dim(2), dim = l.head_dim, value_dim = l.value_width();
  for_blocks(l.sequences * l.tokens, token_block, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t g = 0; g < l.kv_heads; ++g) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t from = head_row(l, l.kv_heads, t, g);
        const int64_t to = (places.sequence[t] * l.kv_heads + g) * positions + places.position[t];
        std::copy_n(op.k.as<T>() + from * dim, dim, op.keys.as<T>() + to * dim);
        if (op.v) std::copy_n(op.v.as<T>() + from * value_dim, value_dim, op.values.as<T>() + to * value_dim);
      }
    }
  });
}

/// Turns scores in units of log 2 into unnormalized probabilities. Returns their sum.
float softmax(float* scores, int64_t count) {
  const float lowest = -std::numeric_limits<float>::infinity();
  vfloat largest = simd::splat(lowest);
  simd::for_lanes(count, [&](int64_t j, auto lanes) { largest = simd::max(largest, load(scores + j, lanes, lowest)); });
  const float maximum = simd::maximum(largest);
  vfloat total{};
  simd::for_lanes(count, [&](int64_t j, auto lanes) {
    const vfloat p = simd::exp2_nonpositive(load(scores + j, lanes, lowest) - maximum);
    store(scores + j, p, lanes);
    total += p;
  });
  return simd::sum(total);
}

/// sum [U] += Σ_j p_j values[j] over one block of keys, in four interleaved partial sums. Rows of values lie `stride`
/// elements apart.
template <typename T>
void add_values(const float* p, const T* values, int64_t stride, int64_t count, int64_t dim, float* sum) {
  simd::for_lanes(dim, [&](int64_t a, auto lanes) {
    vfloat s[4] = {load(sum + a, lanes)};
    const T* column = values + a;
    int64_t j = 0;
    for (; j + 4 <= count; j += 4) {
      for (int64_t i = 0; i < 4; ++i) s[i] += p[j + i] * load(column + (j + i) * stride, lanes);
    }
    for (; j < count; ++j) s[0] += p[j] * load(column + j * stride, lanes);
    store(sum + a, (s[0] + s[1]) + (s[2] + s[3]), lanes);
  });
}

/// What the query heads of one token and key/value head read: rows of keys and values, `value_stride` apart.
template <typename T>
struct Cached {
  const T *keys, *values;
  int64_t value_stride, count;
};

/// `heads` query heads of one token and key/value head. q and out at the first of them, heads `q_stride` and U apart;
/// `buffer` holds max(A, U) + count floats.
template <typename T>
void attend(const HeadLayout& l, int64_t heads, const T* q, int64_t q_stride, const Cached<T>& cached, float* buffer,
            T* out) {
  const int64_t dim = l.head_dim, value_dim = l.value_width(), count = cached.count;
  const float scale = log2_e / std::sqrt(static_cast<float>(dim)) * static_cast<float>(l.score_factor);
  float *row = buffer, *scores = buffer + std::max(dim, value_dim);
  for (int64_t h = 0; h < heads; ++h, q += q_stride, out += value_dim) {
    simd::for_lanes(dim, [&](int64_t a, auto lanes) { store(row + a, scale * load(q + a, lanes), lanes); });
    for (int64_t j = 0; j < count; ++j) scores[j] = simd::dot(row, cached.keys + j * dim, dim);
    const float total = softmax(scores, count);
    std::fill_n(row, value_dim, 0.0f);
    for (int64_t j = 0; j < count; j += key_block)
      add_values(scores + j, cached.values + j * cached.value_stride, cached.value_stride,
                 std::min(key_block, count - j), value_dim, row);
    simd::for_lanes(value_dim, [&](int64_t a, auto lanes) { store(out + a, load(row + a, lanes) / total, lanes); });
  }
}

struct Buffers {
  Buffers(Workspace& memory, const CacheAttention& op)
      : rows(memory, std::max(op.layout.head_dim, op.layout.value_width()) + op.keys.dim(2)) {}
  ThreadBuffers rows;  ///< [max(A, U) + positions] a row of q, and its scores
};

template <typename T>
void attend_all(const CacheAttention& op, const Buffers& buffers) {
  const HeadLayout& l = op.layout;
  const Places places(op.places);
  const int64_t positions = op.keys.dim(2), dim = l.head_dim, group = l.heads / l.kv_heads;
  // Without values, they are the beginnings of the keys.
  const T* const values = op.values ? op.values.as<T>() : op.keys.as<T>();
  const int64_t value_stride = op.values ? l.value_width() : dim;
  const int64_t pairs = l.sequences * l.tokens * l.kv_heads;  // of a token and a key/value head
  const int64_t wanted = std::min(group, blocks_of(omp_get_max_threads(), pairs));
  const int64_t part = blocks_of(group, wanted), parts = blocks_of(group, part);  // of the heads of a group
  for_blocks(pairs * parts, 1, [&](int64_t item, int64_t, int64_t) {
    const int64_t pair = item / parts, token = pair / l.kv_heads, g = pair % l.kv_heads;
    const int64_t first = item % parts * part, head = g * group + first;
    const int64_t row = (places.sequence[token] * l.kv_heads + g) * positions;
    const Cached<T> cached{op.keys.as<T>() + row * dim, values + row * value_stride, value_stride,
                           places.position[token] + int64_t{1}};
    attend(l, std::min(part, group - first), op.q.as<T>() + head_row(l, l.heads, token, head) * dim, l.tokens * dim,
           cached, buffers.rows.mine(), op.out.as<T>() + (token * l.heads + head) * l.value_width());
  });
}
}  // namespace

void CpuOps::run(const CacheAppend& op) {
  dispatch_act(op.k.dtype, [&](auto tag) { append<typename decltype(tag)::type>(op); });
}

void CpuOps::run(const CacheAttention& op) {
  const auto memory = buffers<Buffers>(op);
  dispatch_act(op.q.dtype, [&](auto tag) { attend_all<typename decltype(tag)::type>(op, memory); });
}

size_t CpuWorkspaces::bytes(const CacheAttention& op) const {
  return workspace_bytes<Buffers>(op);
}

}  // namespace strand
