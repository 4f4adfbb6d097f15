// Attention over a prefix cache, for generation.
#include "kernels/cuda/attention.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/dispatch.cuh"
#include "kernels/cuda/mma_tile.cuh"
#include "kernels/cuda/reduce.cuh"

namespace strand {

using namespace gpu;

namespace {

constexpr int threads = 256;
/// The widest row of keys or values that the kernels have registers for: 24 elements of a lane.
constexpr int most_cached_width = 768;

/// Where the tokens of a batch belong, and how the cache lies in memory: [N, G, C, A] of keys, [N, G, C, U] of values.
struct Places {
  const int* sequence;  ///< [B·S]
  const int* position;  ///< [B·S]
  int64_t capacity;     ///< C

  /// The row of `token` and key/value head `head` of G, at position 0.
  __device__ int64_t first_row(int64_t token, int64_t head, int64_t heads) const {
    return (sequence[token] * heads + head) * capacity;
  }
};

// rows[sequence, g, position, a] = from[b, g, s, a]. Rows of both have `width` elements, and a thread moves one
// element.
template <typename T>
__global__ void __launch_bounds__(threads)
    append_kernel(const T* __restrict__ from, T* __restrict__ rows, Places places, AttentionShape shape, int width,
                  int64_t elements) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (i >= elements) return;
  const int64_t a = i % width, s = i / width % shape.tokens;
  const int64_t head = i / width / shape.tokens, g = head % shape.kv_heads;
  const int64_t token = head / shape.kv_heads * shape.tokens + s;
  rows[(places.first_row(token, g, shape.kv_heads) + places.position[token]) * width + a] = from[i];
}

/// Loads the ELEMENTS elements of a row from `first` on, which belong to one lane. Those past the `width` of the row
/// are zero.
template <typename T, int ELEMENTS>
__device__ inline void load_elements(float (&x)[ELEMENTS], const T* row, int first, int width, bool whole_chunks) {
#pragma unroll
  for (int i = 0; i < ELEMENTS; ++i) x[i] = 0;
  if (first >= width) return;
  if (whole_chunks) {
#pragma unroll
    for (int i = 0; i < ELEMENTS; i += Pack<T>::size) {
      if (ELEMENTS > 8 && first + i >= width) continue;
      const Pack<T> pack = load16(row + first + i);
#pragma unroll
      for (int j = 0; j < Pack<T>::size; ++j) x[i + j] = to_float(pack[j]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < ELEMENTS; ++i)
      if (first + i < width) x[i] = to_float(row[first + i]);
  }
}

/// The softmax-weighted sum of one query head over the keys that a group of lanes has seen.
template <int ELEMENTS>
struct Running {
  float largest, sum;
  float value[ELEMENTS];

  __device__ void add(float score, const float (&v)[ELEMENTS]) {
    const float now = fmaxf(largest, score), before = expf(largest - now), p = expf(score - now);
    largest = now;
    sum = sum * before + p;
#pragma unroll
    for (int i = 0; i < ELEMENTS; ++i) value[i] = value[i] * before + p * v[i];
  }
};

/// What the blocks that share a token and head hand to merge_kernel. Sums are relative to the block's largest score.
struct CacheParts {
  float* largest;  ///< [B·S, H, parts]
  float* sum;      ///< [B·S, H, parts]
  float* value;    ///< [B·S, H, parts, U]
};

// A block owns one token, up to HEADS query heads of one key/value head, and a part of the token's positions: the grid
// is (token, key/value head and block of its query heads, part of the positions). LANES lanes share a key, ELEMENTS
// elements each, so the block works on 256 / LANES keys at a time. Each group of lanes keeps a running softmax of its
// own over the keys group, group + groups, …, and at the end the groups are merged in their order. The block reads each
// of its keys and values once for HEADS heads. Where a value is the beginning of its key (`values` is nullptr), it
// reads the key alone.
template <typename T, int LANES, int ELEMENTS, int HEADS>
__global__ void __launch_bounds__(threads, ELEMENTS > 8 ? 1 : 0)  // with 1, no register is spilled
    cache_attention_kernel(const T* __restrict__ q, const T* __restrict__ keys, const T* __restrict__ values,
                           T* __restrict__ out, CacheParts partial, Places places, AttentionShape shape) {
  constexpr int groups = threads / LANES, width = LANES * ELEMENTS;
  __shared__ float group_largest[groups][HEADS], group_sum[groups][HEADS];
  __shared__ float group_value[groups][HEADS][width];
  const int token = static_cast<int>(blockIdx.x), b = token / shape.tokens, s = token % shape.tokens;
  const int heads_of_group = shape.heads / shape.kv_heads, parts = ceil_div(heads_of_group, HEADS);
  const int kv_head = static_cast<int>(blockIdx.y) / parts;
  const int first_of_group = static_cast<int>(blockIdx.y) % parts * HEADS;
  const int count = min(HEADS, heads_of_group - first_of_group);
  const int first_head = kv_head * heads_of_group + first_of_group;
  const int thread = static_cast<int>(threadIdx.x), group = thread / LANES, first = thread % LANES * ELEMENTS;
  const int positions = places.position[token] + 1, share = ceil_div(positions, static_cast<int>(gridDim.z));
  const int begin = static_cast<int>(blockIdx.z) * share, end = min(begin + share, positions);
  const int64_t cache = places.first_row(token, kv_head, shape.kv_heads);

  float query[HEADS][ELEMENTS];
  Running<ELEMENTS> running[HEADS];
#pragma unroll
  for (int h = 0; h < HEADS; ++h) {
    const int64_t head = static_cast<int64_t>(b) * shape.heads + first_head + min(h, count - 1);
    load_elements(query[h], q + (head * shape.tokens + s) * shape.head_dim, first, shape.head_dim, shape.whole_chunks);
    running[h] = {.largest = -INFINITY, .sum = 0, .value = {}};
  }
  for (int round = begin; round < end; round += groups) {  // all lanes of a warp take part, for the shuffles
    const int key = round + group;
    const int64_t row = cache + min(key, end - 1);
    float k[ELEMENTS], v[ELEMENTS];
    load_elements(k, keys + row * shape.head_dim, first, shape.head_dim, shape.whole_chunks);
    if (values != nullptr) {
      load_elements(v, values + row * shape.value_dim, first, shape.value_dim, shape.whole_chunks);
    } else {
#pragma unroll
      for (int i = 0; i < ELEMENTS; ++i) v[i] = first + i < shape.value_dim ? k[i] : 0.0f;
    }
#pragma unroll
    for (int h = 0; h < HEADS; ++h) {
      float score = 0;
#pragma unroll
      for (int i = 0; i < ELEMENTS; ++i) score += query[h][i] * k[i];
#pragma unroll
      for (int offset = LANES / 2; offset > 0; offset /= 2) score += __shfl_xor_sync(all_lanes, score, offset);
      if (key < end) running[h].add(score * shape.scale, v);
    }
  }

#pragma unroll
  for (int h = 0; h < HEADS; ++h) {
    if (first == 0) group_largest[group][h] = running[h].largest, group_sum[group][h] = running[h].sum;
#pragma unroll
    for (int i = 0; i < ELEMENTS; ++i) group_value[group][h][first + i] = running[h].value[i];
  }
  __syncthreads();
  for (int i = thread; i < count * shape.value_dim; i += threads) {
    const int h = i / shape.value_dim, a = i % shape.value_dim;
    float largest = -INFINITY, sum = 0, value = 0;
    for (int g = 0; g < groups; ++g) largest = fmaxf(largest, group_largest[g][h]);
    for (int g = 0; g < groups && largest > -INFINITY; ++g) {
      const float weight = expf(group_largest[g][h] - largest);  // 0 for a group without keys
      sum += weight * group_sum[g][h];
      value += weight * group_value[g][h][a];
    }
    const int64_t token_head = static_cast<int64_t>(token) * shape.heads + first_head + h;
    if (gridDim.z == 1) {
      out[token_head * shape.value_dim + a] = from_float<T>(value / sum);
    } else {
      const int64_t part = token_head * gridDim.z + blockIdx.z;
      if (a == 0) partial.largest[part] = largest, partial.sum[part] = sum;
      partial.value[part * shape.value_dim + a] = value;
    }
  }
}

// Merges the parts of each token and head, in their order. A thread owns one element of `out`.
template <typename T>
__global__ void __launch_bounds__(threads)
    merge_kernel(CacheParts partial, T* __restrict__ out, int parts, int value_dim, int64_t elements) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (i >= elements) return;
  const int64_t first = i / value_dim * parts;
  float largest = -INFINITY, sum = 0, value = 0;
  for (int p = 0; p < parts; ++p) largest = fmaxf(largest, partial.largest[first + p]);
  for (int p = 0; p < parts; ++p) {
    const float weight = expf(partial.largest[first + p] - largest);  // 0 for a part without keys
    sum += weight * partial.sum[first + p];
    value += weight * partial.value[(first + p) * value_dim + i % value_dim];
  }
  out[i] = from_float<T>(value / sum);
}

Places places_of(const CachePlaces& places, const Tensor& keys) {
  return {
      .sequence = data<int32_t>(places.sequence), .position = data<int32_t>(places.position), .capacity = keys.dim(2)};
}

}  // namespace

void CudaOps::run(const CacheAppend& op) {
  const HeadLayout& l = op.layout;
  dispatch_act(op.k.dtype, [&](auto act) {
    using T = typename decltype(act)::type;
    const auto append = [&](const Tensor& from, const Tensor& rows, int64_t width) {
      const int64_t elements = from.elements();
      GPU_LAUNCH(append_kernel<T>, dim3(static_cast<unsigned>(ceil_div<int64_t>(elements, threads))), dim3(threads), 0,
                 stream_, data<T>(from), data<T>(rows), places_of(op.places, op.keys), AttentionShape::of(l, false),
                 static_cast<int>(width), elements);
    };
    append(op.k, op.keys, l.head_dim);
    if (op.v) append(op.v, op.values, l.value_width());
  });
}

void CudaOps::run(const CacheAttention& op) {
  const HeadLayout& l = op.layout;
  const CacheShape blocks(op, multiprocessors_);
  require_at_most(most_cached_width, blocks.width, "elements of a head", "CacheAttention");
  const bool whole = whole_chunks({op.q.data, op.keys.data, op.values.data}, {l.head_dim, l.value_width()});
  const AttentionShape shape = AttentionShape::of(l, whole);
  CacheParts partial{};
  if (blocks.parts > 1) {
    const int64_t count = blocks.tokens * l.heads * blocks.parts;
    partial.largest = workspace_of<float>(op, blocks.workspace());
    partial.sum = partial.largest + count;
    partial.value = partial.sum + count;
  }
  const dim3 grid(static_cast<unsigned>(blocks.tokens), static_cast<unsigned>(l.kv_heads * blocks.head_blocks),
                  static_cast<unsigned>(blocks.parts));
  dispatch_act(op.q.dtype, [&](auto act) {
    using T = typename decltype(act)::type;
    const auto attend = [&](auto kernel, const char* name) {
      launch(name, kernel, grid, dim3(threads), 0, stream_, data<T>(op.q), data<T>(op.keys), data<T>(op.values),
             data<T>(op.out), partial, places_of(op.places, op.keys), shape);
    };
    constexpr int heads = CacheShape::most_heads;
    if (blocks.width <= 64)
      attend(cache_attention_kernel<T, 8, 8, heads>, "cache_attention_kernel<8, 8>");
    else if (blocks.width <= 128)
      attend(cache_attention_kernel<T, 16, 8, heads>, "cache_attention_kernel<16, 8>");
    else if (blocks.width <= CacheShape::widest_shared)
      attend(cache_attention_kernel<T, 32, 8, heads>, "cache_attention_kernel<32, 8>");
    else
      attend(cache_attention_kernel<T, 32, most_cached_width / 32, 1>, "cache_attention_kernel<32, 24>");
    const int64_t elements = op.out.elements();
    if (blocks.parts > 1)
      GPU_LAUNCH(merge_kernel<T>, dim3(static_cast<unsigned>(ceil_div<int64_t>(elements, threads))), dim3(threads), 0,
                 stream_, partial, data<T>(op.out), static_cast<int>(blocks.parts), shape.value_dim, elements);
  });
}

}  // namespace strand
