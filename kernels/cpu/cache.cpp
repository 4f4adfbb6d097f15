// Attention over a prefix cache. A task is one token and one key/value head, with all query heads that share that head,
// so that keys and values are read from memory once. There are few queries and many keys, so the lanes of vectors are
// elements of a head: scores are dot products, and outputs are sums of rows of values.
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

/// First element of [B, heads, S, A] of a token and head.
int64_t head_offset(const HeadLayout& l, int64_t heads, int64_t token, int64_t head) {
  return ((token / l.tokens * heads + head) * l.tokens + token % l.tokens) * l.head_dim;
}

template <typename T>
void append(const CacheAppend& op) {
  const HeadLayout& l = op.layout;
  const Places places(op.places);
  const int64_t positions = op.keys.dim(2), dim = l.head_dim;
  for_blocks(l.sequences * l.tokens, token_block, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t g = 0; g < l.kv_heads; ++g) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t from = head_offset(l, l.kv_heads, t, g);
        const int64_t to = ((places.sequence[t] * l.kv_heads + g) * positions + places.position[t]) * dim;
        std::copy_n(op.k.as<T>() + from, dim, op.keys.as<T>() + to);
        std::copy_n(op.v.as<T>() + from, dim, op.values.as<T>() + to);
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

/// sum [A] += Σ_j p_j values[j] over one block of keys, in four interleaved partial sums
template <typename T>
void add_values(const float* p, const T* values, int64_t count, int64_t dim, float* sum) {
  simd::for_lanes(dim, [&](int64_t a, auto lanes) {
    vfloat s[4] = {load(sum + a, lanes)};
    const T* column = values + a;
    int64_t j = 0;
    for (; j + 4 <= count; j += 4) {
      for (int64_t i = 0; i < 4; ++i) s[i] += p[j + i] * load(column + (j + i) * dim, lanes);
    }
    for (; j < count; ++j) s[0] += p[j] * load(column + j * dim, lanes);
    store(sum + a, (s[0] + s[1]) + (s[2] + s[3]), lanes);
  });
}

/// `group` query heads of one token over `count` keys. q and out at the first of them, heads `q_stride` and A apart;
/// `buffer` holds A + count floats.
template <typename T>
void attend(const T* q, int64_t q_stride, int64_t group, const T* keys, const T* values, int64_t count, int64_t dim,
            float* buffer, T* out) {
  const float scale = log2_e / std::sqrt(static_cast<float>(dim));
  float *row = buffer, *scores = buffer + dim;
  for (int64_t h = 0; h < group; ++h, q += q_stride, out += dim) {
    simd::for_lanes(dim, [&](int64_t a, auto lanes) { store(row + a, scale * load(q + a, lanes), lanes); });
    for (int64_t j = 0; j < count; ++j) scores[j] = simd::dot(row, keys + j * dim, dim);
    const float total = softmax(scores, count);
    std::fill_n(row, dim, 0.0f);
    for (int64_t j = 0; j < count; j += key_block)
      add_values(scores + j, values + j * dim, std::min(key_block, count - j), dim, row);
    simd::for_lanes(dim, [&](int64_t a, auto lanes) { store(out + a, load(row + a, lanes) / total, lanes); });
  }
}

struct Buffers {
  Buffers(Workspace& memory, const CacheAttention& op) : rows(memory, op.layout.head_dim + op.keys.dim(2)) {}
  ThreadBuffers rows;  ///< [A + positions] a row of q, and its scores
};

template <typename T>
void attend_all(const CacheAttention& op, const Buffers& buffers) {
  const HeadLayout& l = op.layout;
  const Places places(op.places);
  const int64_t positions = op.keys.dim(2), dim = l.head_dim, group = l.heads / l.kv_heads;
  for_blocks(l.sequences * l.tokens * l.kv_heads, 1, [&](int64_t item, int64_t, int64_t) {
    const int64_t token = item / l.kv_heads, g = item % l.kv_heads;
    const int64_t cached = (places.sequence[token] * l.kv_heads + g) * positions * dim;
    attend(op.q.as<T>() + head_offset(l, l.heads, token, g * group), l.tokens * dim, group, op.keys.as<T>() + cached,
           op.values.as<T>() + cached, places.position[token] + int64_t{1}, dim, buffers.rows.mine(),
           op.out.as<T>() + (token * l.heads + g * group) * dim);
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
