// Attention over a prefix cache, for generation.
#include <algorithm>
#include <cmath>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/dispatch.cuh"
#include "kernels/cuda/mma_tile.cuh"
#include "kernels/cuda/reduce.cuh"

namespace strand {

using namespace gpu;

namespace {

constexpr int threads = 256;

/// Where the tokens of a batch belong, and how the cache lies in memory: [N, G, C, A].
struct Places {
  const int* sequence;  ///< [B·S]
  const int* position;  ///< [B·S]
  int64_t capacity;     ///< C

  /// The row of `token` and key/value head `head` of G, at position 0.
  __device__ int64_t first_row(int64_t token, int64_t head, int64_t heads) const {
    return (sequence[token] * heads + head) * capacity;
  }
};

// keys[sequence, g, position, a] = k[b, g, s, a], and values likewise: a thread moves one element of each.
template <typename T>
__global__ void __launch_bounds__(threads)
    append_kernel(const T* __restrict__ k, const T* __restrict__ v, T* __restrict__ keys, T* __restrict__ values,
                  Places places, AttentionShape shape, int64_t elements) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (i >= elements) return;
  const int64_t a = i % shape.head_dim, s = i / shape.head_dim % shape.tokens;
  const int64_t head = i / shape.head_dim / shape.tokens, g = head % shape.kv_heads;
  const int64_t token = head / shape.kv_heads * shape.tokens + s;
  const int64_t to = (places.first_row(token, g, shape.kv_heads) + places.position[token]) * shape.head_dim + a;
  keys[to] = k[i];
  values[to] = v[i];
}

constexpr int elements_a_lane = 8;
constexpr int heads_a_block = cache_heads_of_block;

/// The 8 elements of one row that belong to a lane; 0 behind the head.
template <typename T>
__device__ inline void load_elements(float (&x)[elements_a_lane], const T* row, int first,
                                     const AttentionShape& shape) {
#pragma unroll
  for (int i = 0; i < elements_a_lane; ++i) x[i] = 0;
  if (first >= shape.head_dim) return;
  if (shape.whole_chunks) {
#pragma unroll
    for (int i = 0; i < elements_a_lane; i += Pack<T>::size) {
      const Pack<T> pack = load16(row + first + i);
#pragma unroll
      for (int j = 0; j < Pack<T>::size; ++j) x[i + j] = to_float(pack[j]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < elements_a_lane; ++i)
      if (first + i < shape.head_dim) x[i] = to_float(row[first + i]);
  }
}

/// The softmax-weighted sum of one query head over the keys that a group of lanes has seen.
struct Running {
  float largest, sum;
  float value[elements_a_lane];

  __device__ void add(float score, const float (&v)[elements_a_lane]) {
    const float now = fmaxf(largest, score), before = expf(largest - now), p = expf(score - now);
    largest = now;
    sum = sum * before + p;
#pragma unroll
    for (int i = 0; i < elements_a_lane; ++i) value[i] = value[i] * before + p * v[i];
  }
};

/// What the blocks that share a token and head hand to merge_kernel: sums relative to their largest score.
struct CacheParts {
  float* largest;  ///< [B·S, H, parts]
  float* sum;      ///< [B·S, H, parts]
  float* value;    ///< [B·S, H, parts, A]
};

// A block owns one token, up to 4 query heads of one key/value head, and part blockIdx.z of the token's positions.
// LANES lanes share a key, 8 elements each, so 256 / LANES keys are worked on at a time; every group of lanes keeps a
// running softmax of its own over keys group, group + groups, …; at the end they are merged in the order of the groups.
// Reads the keys and values up to the token's position once for 4 heads. Block (token, key/value head and some of its
// query heads, part of the positions).
template <typename T, int LANES>
__global__ void __launch_bounds__(threads)
    cache_attention_kernel(const T* __restrict__ q, const T* __restrict__ keys, const T* __restrict__ values,
                           T* __restrict__ out, CacheParts partial, Places places, AttentionShape shape) {
  constexpr int groups = threads / LANES, width = LANES * elements_a_lane;
  __shared__ float group_largest[groups][heads_a_block], group_sum[groups][heads_a_block];
  __shared__ float group_value[groups][heads_a_block][width];
  const int token = static_cast<int>(blockIdx.x), b = token / shape.tokens, s = token % shape.tokens;
  const int heads_of_group = shape.heads / shape.kv_heads, parts = ceil_div(heads_of_group, heads_a_block);
  const int kv_head = static_cast<int>(blockIdx.y) / parts;
  const int first_of_group = static_cast<int>(blockIdx.y) % parts * heads_a_block;
  const int count = min(heads_a_block, heads_of_group - first_of_group);
  const int first_head = kv_head * heads_of_group + first_of_group;
  const int thread = static_cast<int>(threadIdx.x), group = thread / LANES, first = thread % LANES * elements_a_lane;
  const int positions = places.position[token] + 1, share = ceil_div(positions, static_cast<int>(gridDim.z));
  const int begin = static_cast<int>(blockIdx.z) * share, behind = min(begin + share, positions);
  const int64_t cache = places.first_row(token, kv_head, shape.kv_heads);

  float query[heads_a_block][elements_a_lane];
  Running running[heads_a_block];
#pragma unroll
  for (int h = 0; h < heads_a_block; ++h) {
    const int64_t head = static_cast<int64_t>(b) * shape.heads + first_head + min(h, count - 1);
    load_elements(query[h], q + (head * shape.tokens + s) * shape.head_dim, first, shape);
    running[h] = {.largest = -INFINITY, .sum = 0, .value = {}};
  }
  for (int round = begin; round < behind; round += groups) {  // all lanes of a warp, for the shuffles
    const int key = round + group;
    const int64_t row = (cache + min(key, behind - 1)) * shape.head_dim;
    float k[elements_a_lane], v[elements_a_lane];
    load_elements(k, keys + row, first, shape);
    load_elements(v, values + row, first, shape);
#pragma unroll
    for (int h = 0; h < heads_a_block; ++h) {
      float score = 0;
#pragma unroll
      for (int i = 0; i < elements_a_lane; ++i) score += query[h][i] * k[i];
#pragma unroll
      for (int offset = LANES / 2; offset > 0; offset /= 2) score += __shfl_xor_sync(all_lanes, score, offset);
      if (key < behind) running[h].add(score * shape.scale, v);
    }
  }

#pragma unroll
  for (int h = 0; h < heads_a_block; ++h) {
    if (first == 0) group_largest[group][h] = running[h].largest, group_sum[group][h] = running[h].sum;
#pragma unroll
    for (int i = 0; i < elements_a_lane; ++i) group_value[group][h][first + i] = running[h].value[i];
  }
  __syncthreads();
  for (int i = thread; i < count * shape.head_dim; i += threads) {
    const int h = i / shape.head_dim, a = i % shape.head_dim;
    float largest = -INFINITY, sum = 0, value = 0;
    for (int g = 0; g < groups; ++g) largest = fmaxf(largest, group_largest[g][h]);
    for (int g = 0; g < groups && largest > -INFINITY; ++g) {
      const float weight = expf(group_largest[g][h] - largest);  // 0 for a group without keys
      sum += weight * group_sum[g][h];
      value += weight * group_value[g][h][a];
    }
    const int64_t token_head = static_cast<int64_t>(token) * shape.heads + first_head + h;
    if (gridDim.z == 1) {
      out[token_head * shape.head_dim + a] = from_float<T>(value / sum);
    } else {
      const int64_t part = token_head * gridDim.z + blockIdx.z;
      if (a == 0) partial.largest[part] = largest, partial.sum[part] = sum;
      partial.value[part * shape.head_dim + a] = value;
    }
  }
}

// out = what all parts of a token and head make together, in their order. A thread owns one element.
template <typename T>
__global__ void __launch_bounds__(threads)
    merge_kernel(CacheParts partial, T* __restrict__ out, int parts, int head_dim, int64_t elements) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (i >= elements) return;
  const int64_t first = i / head_dim * parts;
  float largest = -INFINITY, sum = 0, value = 0;
  for (int p = 0; p < parts; ++p) largest = fmaxf(largest, partial.largest[first + p]);
  for (int p = 0; p < parts; ++p) {
    const float weight = expf(partial.largest[first + p] - largest);  // 0 for a part without keys
    sum += weight * partial.sum[first + p];
    value += weight * partial.value[(first + p) * head_dim + i % head_dim];
  }
  out[i] = from_float<T>(value / sum);
}

AttentionShape shape_of(const HeadLayout& layout, bool whole) {
  return {.sequences = static_cast<int>(layout.sequences),
          .tokens = static_cast<int>(layout.tokens),
          .heads = static_cast<int>(layout.heads),
          .kv_heads = static_cast<int>(layout.kv_heads),
          .head_dim = static_cast<int>(layout.head_dim),
          .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(layout.head_dim))),
          .whole_chunks = whole};
}

Places places_of(const CachePlaces& places, const Tensor& keys) {
  return {
      .sequence = data<int32_t>(places.sequence), .position = data<int32_t>(places.position), .capacity = keys.dim(2)};
}

}  // namespace

void CudaOps::run(const CacheAppend& op) {
  const int64_t elements = op.k.elements();
  dispatch_act(op.k.dtype, [&](auto act) {
    using T = typename decltype(act)::type;
    GPU_LAUNCH(append_kernel<T>, dim3(static_cast<unsigned>(ceil_div<int64_t>(elements, threads))), dim3(threads), 0,
               stream_, data<T>(op.k), data<T>(op.v), data<T>(op.keys), data<T>(op.values),
               places_of(op.places, op.keys), shape_of(op.layout, false), elements);
  });
}

void CudaOps::run(const CacheAttention& op) {
  const HeadLayout& l = op.layout;
  require_at_most(most_head_dim, l.head_dim, "elements of a head", "CacheAttention");
  const AttentionShape shape = shape_of(l, whole_chunks({op.q.data, op.keys.data, op.values.data}, {l.head_dim}));
  const int64_t tokens = l.sequences * l.tokens, head_blocks = ceil_div<int64_t>(l.heads / l.kv_heads, heads_a_block);
  const int64_t parts = cache_parts(tokens * l.kv_heads * head_blocks, op.keys.dim(2), multiprocessors_);
  CacheParts partial{};
  if (parts > 1) {
    const int64_t count = tokens * l.heads * parts;
    partial.largest = workspace_of<float>(op, count * (2 + l.head_dim));
    partial.sum = partial.largest + count;
    partial.value = partial.sum + count;
  }
  const dim3 grid(static_cast<unsigned>(tokens), static_cast<unsigned>(l.kv_heads * head_blocks),
                  static_cast<unsigned>(parts));
  dispatch_act(op.q.dtype, [&](auto act) {
    using T = typename decltype(act)::type;
    const auto attend = [&](auto kernel, const char* name) {
      launch(name, kernel, grid, dim3(threads), 0, stream_, data<T>(op.q), data<T>(op.keys), data<T>(op.values),
             data<T>(op.out), partial, places_of(op.places, op.keys), shape);
    };
    if (l.head_dim <= 64)
      attend(cache_attention_kernel<T, 8>, "cache_attention_kernel<8>");
    else if (l.head_dim <= 128)
      attend(cache_attention_kernel<T, 16>, "cache_attention_kernel<16>");
    else
      attend(cache_attention_kernel<T, 32>, "cache_attention_kernel<32>");
    const int64_t elements = op.out.elements();
    if (parts > 1)
      GPU_LAUNCH(merge_kernel<T>, dim3(static_cast<unsigned>(ceil_div<int64_t>(elements, threads))), dim3(threads), 0,
                 stream_, partial, data<T>(op.out), static_cast<int>(parts), static_cast<int>(l.head_dim), elements);
  });
}

}  // namespace strand
