// Attention forward on tensor cores, bf16, in the manner of FlashAttention-2 (Dao 2023): scores and probabilities exist
// for one block of keys at a time, in registers.
//
// A block of 4 warps owns QUERIES consecutive queries of one head, each warp STRIPS strips of 16 of them, and goes
// through the keys up to its last query. It reads q once and k, v of the group once (from L2 after the first of its
// heads), and writes out and lse once. cp.async fetches v while q kᵀ is computed, and the next k during the product
// with v. Blocks with the most keys come first in the grid.
#include "kernels/cuda/attention_mma.cuh"

namespace strand::gpu {

namespace {

using bf16 = __nv_bfloat16;

constexpr int warps = 4, threads = 32 * warps;
constexpr float log2_e = 1.4426950408889634f, ln_2 = 0.6931471805599453f;

/// Tiles for keys of up to WIDTH elements and values of up to VALUES elements. Columns past A or U are zero.
template <int WIDTH, int VALUES, int STRIPS, int KEYS>
struct Forward {
  static constexpr int queries = warps * STRIPS * 16, key_pairs = KEYS / 16, value_pairs = VALUES / 16;
  static constexpr int stride = WIDTH + tile_padding, value_stride = VALUES + tile_padding;
  static constexpr size_t shared_bytes = sizeof(bf16) * (stride * (queries + KEYS) + value_stride * KEYS);
};

/// The running softmax of one strip. A lane holds two of its rows: row lane / 4 has index 0, row lane / 4 + 8 index 1.
/// Scores are in units of log 2.
struct Softmax {
  float largest[2] = {-INFINITY, -INFINITY};
  float sum[2] = {};  ///< of this lane's columns

  /// Turns scores into exp2(score − largest), and scales what was summed before to the new largest.
  template <int SCORES, int OUTPUTS>
  __device__ void step(float (&scores)[SCORES][4], float (&out)[OUTPUTS][4]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float now = largest[half];
#pragma unroll
      for (int j = 0; j < SCORES; ++j) now = fmaxf(now, fmaxf(scores[j][2 * half], scores[j][2 * half + 1]));
      now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 1));  // the 4 lanes of a row
      now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 2));
      const float before = exp2f(largest[half] - now);
      largest[half] = now;
      sum[half] *= before;
#pragma unroll
      for (int j = 0; j < OUTPUTS; ++j) out[j][2 * half] *= before, out[j][2 * half + 1] *= before;
#pragma unroll
      for (int j = 0; j < SCORES; ++j)
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          scores[j][e] = exp2f(scores[j][e] - now);
          sum[half] += scores[j][e];
        }
    }
  }
  /// The sums over whole rows, in all lanes.
  __device__ void finish() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      sum[half] += __shfl_xor_sync(0xffffffffu, sum[half], 1);
      sum[half] += __shfl_xor_sync(0xffffffffu, sum[half], 2);
    }
  }
};

/// Scales the scores of a strip whose first query is `query`, against keys from `key` on. A key that is later than the
/// query gets −∞.
template <int SCORES>
__device__ inline void scale_and_mask(float (&scores)[SCORES][4], float scale, int query, int key) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int offset = query - key;
  const bool all_earlier = SCORES * 8 - 1 <= offset;
#pragma unroll
  for (int j = 0; j < SCORES; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const bool seen = all_earlier || j * 8 + lane % 4 * 2 + e % 2 <= offset + lane / 4 + e / 2 * 8;
      scores[j][e] = seen ? scores[j][e] * scale : -INFINITY;
    }
}

template <int WIDTH, int VALUES, int STRIPS, int KEYS>
__global__ void __launch_bounds__(threads) forward_kernel(AttentionForwardTensors<bf16> tensors, AttentionShape shape) {
  using Tiles = Forward<WIDTH, VALUES, STRIPS, KEYS>;
  const int values = value_dim<WIDTH, VALUES>(shape);
  GPU_DYN_SHARED(bf16, shared);
  bf16* const q_tile = shared;
  bf16* const k_tile = q_tile + Tiles::queries * Tiles::stride;
  bf16* const v_tile = k_tile + KEYS * Tiles::stride;
  const int sequence_head = static_cast<int>(blockIdx.x);
  const int sequence = sequence_head / shape.heads, head = sequence_head % shape.heads;
  const int kv_head = sequence * shape.kv_heads + head / (shape.heads / shape.kv_heads);
  const int first_query = static_cast<int>(gridDim.y - 1 - blockIdx.y) * Tiles::queries;
  const int end_of_keys = min(first_query + Tiles::queries, shape.tokens);
  const int strip = static_cast<int>(threadIdx.x) / 32 * STRIPS * 16;  // this warp's first query within the tile
  const int last_query = first_query + strip + STRIPS * 16 - 1;

  const auto fetch_keys = [&](int key) {
    begin_tile_copy<KEYS, WIDTH, threads>(k_tile, head_rows(tensors.k, shape, shape.head_dim, kv_head, key));
    ptx::cp_async_commit();
  };
  const auto fetch_values = [&](int key) {
    begin_tile_copy<KEYS, VALUES, threads>(v_tile, head_rows(tensors.v, shape, values, kv_head, key));
    ptx::cp_async_commit();
  };
  begin_tile_copy<Tiles::queries, WIDTH, threads>(
      q_tile, head_rows(tensors.q, shape, shape.head_dim, sequence_head, first_query));
  fetch_keys(0);

  float out[STRIPS][2 * Tiles::value_pairs][4] = {};
  Softmax softmax[STRIPS];
  for (int key = 0; key < end_of_keys; key += KEYS) {
    float scores[STRIPS][2 * Tiles::key_pairs][4] = {};
    const bool seen = key <= last_query;  // by some query of this warp
    ptx::cp_async_wait<0>();
    __syncthreads();  // k is there, and everybody has left v
    fetch_values(key);
    if (seen) {
      multiply_rows<WIDTH>(scores, q_tile, strip, k_tile);
#pragma unroll
      for (int s = 0; s < STRIPS; ++s) {
        scale_and_mask(scores[s], shape.scale * log2_e, first_query + strip + s * 16, key);
        softmax[s].step(scores[s], out[s]);
      }
    }
    ptx::cp_async_wait<0>();
    __syncthreads();  // v is there, and everybody has left k
    if (key + KEYS < end_of_keys) fetch_keys(key + KEYS);
    if (seen) multiply_registers<VALUES>(out, scores, v_tile);
  }

  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int s = 0; s < STRIPS; ++s) {
    softmax[s].finish();
    const int query = first_query + strip + s * 16;
    const float factor[2] = {1 / softmax[s].sum[0], 1 / softmax[s].sum[1]};
    store_strip(token_rows(tensors.out, shape, values, sequence, head, query), out[s], factor);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = query + half * 8 + lane / 4;
      if (lane % 4 == 0 && row < shape.tokens)
        tensors.lse[static_cast<int64_t>(sequence_head) * shape.tokens + row] =
            (softmax[s].largest[half] + log2f(softmax[s].sum[half])) * ln_2;
    }
  }
}

template <int WIDTH, int VALUES, int STRIPS, int KEYS>
void launch(const AttentionForwardTensors<bf16>& tensors, const AttentionShape& shape, cudaStream_t stream) {
  using Tiles = Forward<WIDTH, VALUES, STRIPS, KEYS>;
  const dim3 grid(static_cast<unsigned>(shape.sequences * shape.heads),
                  static_cast<unsigned>(ceil_div<int64_t>(shape.tokens, Tiles::queries)));
  GPU_LAUNCH((forward_kernel<WIDTH, VALUES, STRIPS, KEYS>), grid, dim3(threads), Tiles::shared_bytes, stream, tensors,
             shape);
}

}  // namespace

void attention_forward(const AttentionForwardTensors<bf16>& tensors, const AttentionShape& shape, cudaStream_t stream) {
  if (shape.one_width()) {
    if (shape.head_dim <= 32) return launch<32, 32, 2, 64>(tensors, shape, stream);
    if (shape.head_dim <= 64) return launch<64, 64, 2, 64>(tensors, shape, stream);
    if (shape.head_dim <= 96) return launch<96, 96, 2, 64>(tensors, shape, stream);
    if (shape.head_dim <= 128) return launch<128, 128, 2, 64>(tensors, shape, stream);
  } else if (shape.head_dim <= 192 && shape.value_dim <= 128) {
    return launch<192, 128, 1, 64>(tensors, shape, stream);
  }
  launch<most_head_dim, most_head_dim, 1, 32>(tensors, shape, stream);
}

}  // namespace strand::gpu
