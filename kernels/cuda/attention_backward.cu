// Attention backward on tensor cores, bf16. Nothing is added atomically: one kernel owns keys and goes through queries
// for dk and dv, another owns queries and goes through keys for dq. Both recompute the probabilities from q, k and lse,
// so the products cost 7/5 of a backward with atomics, and the same shapes give the same bits.
//
// P_ij = exp(s q_i·k_j − lse_i), dP = dO Vᵀ, dS = P ⊙ (dP − Δ), s = f/√A. P and dS stay in registers; they enter the
// next product as bf16.
#include "kernels/cuda/attention_mma.cuh"

namespace strand::gpu {

namespace {

using bf16 = __nv_bfloat16;

constexpr int warps = 4, threads = 32 * warps;
/// How many blocks the compiler leaves registers for on a multiprocessor. 0 leaves the choice to it; where it would
/// spill registers, 2 prevents that.
template <int WIDTH, int VALUES>
constexpr int blocks = WIDTH == VALUES ? 0 : 2;
constexpr float log2_e = 1.4426950408889634f;

// ---- dk and dv ------------------------------------------------------------------------------------------------------

/// A block owns 64 keys, a warp 16 of them, and part blockIdx.z of PARTS of the columns of their gradients.
template <int WIDTH, int VALUES, int PARTS, int QUERIES>
struct KeysTiles {
  static constexpr int keys = warps * 16, stride = WIDTH + tile_padding, value_stride = VALUES + tile_padding;
  static constexpr int columns = WIDTH / PARTS, value_columns = VALUES / PARTS;
  static constexpr int stage_elements = QUERIES * (stride + value_stride);  // q and dout
  static constexpr size_t shared_bytes =
      sizeof(bf16) * (keys * (stride + value_stride) + 2 * stage_elements) + sizeof(float) * 2 * 2 * QUERIES;
};

// Rows of the score matrix are keys here, columns are queries: Sᵀ = K Qᵀ, dV += Pᵀ dO, dPᵀ = V dOᵀ, dK += dSᵀ Q.
// The block goes through the queries of all heads of its group that see its keys, 64 at a time; cp.async fetches the
// next q, dout, lse and delta into the other of two stages meanwhile. It reads k, v once, and q, dout once for each
// block of keys before them (from L2), and writes dk, dv once.
template <int WIDTH, int VALUES, int PARTS, int QUERIES>
__global__ void __launch_bounds__(threads, blocks<WIDTH, VALUES>)
    keys_kernel(AttentionBackwardTensors<bf16> tensors, AttentionShape shape) {
  using Tiles = KeysTiles<WIDTH, VALUES, PARTS, QUERIES>;
  constexpr int stride = Tiles::stride;
  const int values = value_dim<WIDTH, VALUES>(shape);
  GPU_DYN_SHARED(bf16, shared);
  bf16* const k_tile = shared;
  bf16* const v_tile = k_tile + Tiles::keys * stride;
  bf16* const stages = v_tile + Tiles::keys * Tiles::value_stride;                         // [2][q, dout][QUERIES]
  float* const statistics = reinterpret_cast<float*>(stages + 2 * Tiles::stage_elements);  // [2][lse, delta][QUERIES]

  const int kv_head = static_cast<int>(blockIdx.x);
  const int heads_of_group = shape.heads / shape.kv_heads;
  const int first_key = static_cast<int>(blockIdx.y) * Tiles::keys;  // the first ones are seen most
  const int first_query = first_key / QUERIES * QUERIES;
  const int query_blocks = ceil_div(shape.tokens - first_query, QUERIES);
  const int steps = heads_of_group * query_blocks;
  const int lane = static_cast<int>(threadIdx.x) % 32, strip = static_cast<int>(threadIdx.x) / 32 * 16;

  const auto query_of = [&](int step) { return first_query + step % query_blocks * QUERIES; };
  const auto fetch = [&](int step) {
    if (step < steps) {
      const int query = query_of(step), sequence = kv_head / shape.kv_heads;
      const int head = kv_head % shape.kv_heads * heads_of_group + step / query_blocks;
      const int sequence_head = sequence * shape.heads + head;
      bf16* const stage = stages + step % 2 * Tiles::stage_elements;
      begin_tile_copy<QUERIES, WIDTH, threads>(stage,
                                               head_rows(tensors.q, shape, shape.head_dim, sequence_head, query));
      begin_tile_copy<QUERIES, VALUES, threads>(stage + QUERIES * stride,
                                                token_rows(tensors.dout, shape, values, sequence, head, query));
      float* const to = statistics + step % 2 * 2 * QUERIES;
      for (int i = static_cast<int>(threadIdx.x); i < QUERIES; i += threads) {
        const int64_t at = static_cast<int64_t>(sequence_head) * shape.tokens + query + i;
        const bool inside = query + i < shape.tokens;
        to[i] = inside ? tensors.lse[at] * log2_e : 0.0f;
        to[QUERIES + i] = inside ? tensors.delta[at] : 0.0f;
      }
    }
    ptx::cp_async_commit();
  };
  begin_tile_copy<Tiles::keys, WIDTH, threads>(k_tile, head_rows(tensors.k, shape, shape.head_dim, kv_head, first_key));
  begin_tile_copy<Tiles::keys, VALUES, threads>(v_tile, head_rows(tensors.v, shape, values, kv_head, first_key));
  fetch(0);

  float dk[1][Tiles::columns / 8][4] = {}, dv[1][Tiles::value_columns / 8][4] = {};
  const int column = static_cast<int>(blockIdx.z) * Tiles::columns;
  const int value_column = static_cast<int>(blockIdx.z) * Tiles::value_columns;
  const float scale = shape.scale * log2_e;
  for (int step = 0; step < steps; ++step) {
    fetch(step + 1);
    ptx::cp_async_wait<1>();
    __syncthreads();
    const bf16* const q_tile = stages + step % 2 * Tiles::stage_elements;
    const bf16* const dout_tile = q_tile + QUERIES * stride;
    const float* const lse = statistics + step % 2 * 2 * QUERIES;
    const float* const delta = lse + QUERIES;
    // How far the first query of the block is ahead of this warp's first key; beyond the last query, everything is 0.
    const int ahead = query_of(step) - first_key - strip;
    if (ahead + QUERIES > 0) {
      float p[1][QUERIES / 8][4] = {};
      multiply_rows<WIDTH>(p, k_tile, strip, q_tile);
#pragma unroll
      for (int j = 0; j < QUERIES / 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int query = j * 8 + lane % 4 * 2 + e % 2, key = lane / 4 + e / 2 * 8;
          p[0][j][e] = key <= query + ahead ? exp2f(p[0][j][e] * scale - lse[query]) : 0.0f;
        }
      multiply_registers<VALUES>(dv, p, dout_tile, value_column);
      float ds[1][QUERIES / 8][4] = {};
      multiply_rows<VALUES>(ds, v_tile, strip, dout_tile);
#pragma unroll
      for (int j = 0; j < QUERIES / 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) ds[0][j][e] = p[0][j][e] * (ds[0][j][e] - delta[j * 8 + lane % 4 * 2 + e % 2]);
      multiply_registers<WIDTH>(dk, ds, q_tile, column);
    }
    __syncthreads();  // everybody has left this stage
  }
  ptx::cp_async_wait<0>();
  const float scales[2] = {shape.scale, shape.scale}, ones[2] = {1, 1};
  store_strip(head_rows(tensors.dk, shape, shape.head_dim, kv_head, first_key + strip), dk[0], scales, column);
  store_strip(head_rows(tensors.dv, shape, values, kv_head, first_key + strip), dv[0], ones, value_column);
}

// ---- dq -------------------------------------------------------------------------------------------------------------

/// A block owns 64·STRIPS queries of one head, a warp STRIPS strips of 16 of them, and part blockIdx.z of PARTS of the
/// columns of their gradient.
template <int WIDTH, int VALUES, int PARTS, int STRIPS, int KEYS>
struct QueriesTiles {
  static constexpr int queries = warps * STRIPS * 16, stride = WIDTH + tile_padding;
  static constexpr int value_stride = VALUES + tile_padding, columns = WIDTH / PARTS;
  static constexpr int stage_elements = KEYS * (stride + value_stride);  // k and v
  static constexpr size_t shared_bytes = sizeof(bf16) * (queries * (stride + value_stride) + 2 * stage_elements);
};

// S = Q Kᵀ, dP = dO Vᵀ, dQ += dS K. The block goes through the keys that its queries see; cp.async fetches the next k
// and v into the other of two stages meanwhile. It reads q, dout once, and k, v once for each block of queries behind
// them (from L2), and writes dq once.
template <int WIDTH, int VALUES, int PARTS, int STRIPS, int KEYS>
__global__ void __launch_bounds__(threads, blocks<WIDTH, VALUES>)
    queries_kernel(AttentionBackwardTensors<bf16> tensors, AttentionShape shape) {
  using Tiles = QueriesTiles<WIDTH, VALUES, PARTS, STRIPS, KEYS>;
  constexpr int stride = Tiles::stride;
  const int values = value_dim<WIDTH, VALUES>(shape);
  GPU_DYN_SHARED(bf16, shared);
  bf16* const q_tile = shared;
  bf16* const dout_tile = q_tile + Tiles::queries * stride;
  bf16* const stages = dout_tile + Tiles::queries * Tiles::value_stride;  // [2][k, v][KEYS]

  const int sequence_head = static_cast<int>(blockIdx.x);
  const int sequence = sequence_head / shape.heads, head = sequence_head % shape.heads;
  const int kv_head = sequence * shape.kv_heads + head / (shape.heads / shape.kv_heads);
  const int first_query = static_cast<int>(gridDim.y - 1 - blockIdx.y) * Tiles::queries;  // the longest first
  const int end_of_keys = min(first_query + Tiles::queries, shape.tokens);
  const int steps = ceil_div(end_of_keys, KEYS);
  const int lane = static_cast<int>(threadIdx.x) % 32, strip = static_cast<int>(threadIdx.x) / 32 * STRIPS * 16;

  const auto fetch = [&](int step) {
    if (step < steps) {
      bf16* const stage = stages + step % 2 * Tiles::stage_elements;
      const int key = step * KEYS;
      begin_tile_copy<KEYS, WIDTH, threads>(stage, head_rows(tensors.k, shape, shape.head_dim, kv_head, key));
      begin_tile_copy<KEYS, VALUES, threads>(stage + KEYS * stride, head_rows(tensors.v, shape, values, kv_head, key));
    }
    ptx::cp_async_commit();
  };
  begin_tile_copy<Tiles::queries, WIDTH, threads>(
      q_tile, head_rows(tensors.q, shape, shape.head_dim, sequence_head, first_query));
  begin_tile_copy<Tiles::queries, VALUES, threads>(
      dout_tile, token_rows(tensors.dout, shape, values, sequence, head, first_query));
  fetch(0);

  float lse[STRIPS][2], delta[STRIPS][2];
#pragma unroll
  for (int s = 0; s < STRIPS; ++s)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = first_query + strip + s * 16 + half * 8 + lane / 4;
      const int64_t row = static_cast<int64_t>(sequence_head) * shape.tokens + query;
      const bool inside = query < shape.tokens;
      lse[s][half] = inside ? tensors.lse[row] * log2_e : 0.0f;
      delta[s][half] = inside ? tensors.delta[row] : 0.0f;
    }

  float dq[STRIPS][Tiles::columns / 8][4] = {};
  const int column = static_cast<int>(blockIdx.z) * Tiles::columns;
  const float scale = shape.scale * log2_e;
  for (int step = 0; step < steps; ++step) {
    fetch(step + 1);
    ptx::cp_async_wait<1>();
    __syncthreads();
    const bf16* const k_tile = stages + step % 2 * Tiles::stage_elements;
    const bf16* const v_tile = k_tile + KEYS * stride;
    const int ahead = first_query - step * KEYS + strip;  // of the warp's first query over the first key
    if (ahead + STRIPS * 16 > 0) {                        // some query of this warp sees some key
      float p[STRIPS][KEYS / 8][4] = {}, ds[STRIPS][KEYS / 8][4] = {};
      multiply_rows<WIDTH>(p, q_tile, strip, k_tile);
      multiply_rows<VALUES>(ds, dout_tile, strip, v_tile);
#pragma unroll
      for (int s = 0; s < STRIPS; ++s)
#pragma unroll
        for (int j = 0; j < KEYS / 8; ++j)
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const int query = s * 16 + lane / 4 + e / 2 * 8, key = j * 8 + lane % 4 * 2 + e % 2;
            const float x = key <= query + ahead ? exp2f(p[s][j][e] * scale - lse[s][e / 2]) : 0.0f;
            ds[s][j][e] = x * (ds[s][j][e] - delta[s][e / 2]);
          }
      multiply_registers<WIDTH>(dq, ds, k_tile, column);
    }
    __syncthreads();  // everybody has left this stage
  }
  ptx::cp_async_wait<0>();
  const float scales[2] = {shape.scale, shape.scale};
#pragma unroll
  for (int s = 0; s < STRIPS; ++s)
    store_strip(head_rows(tensors.dq, shape, shape.head_dim, sequence_head, first_query + strip + s * 16), dq[s],
                scales, column);
}

// ---- Launches -------------------------------------------------------------------------------------------------------

template <int WIDTH, int VALUES, int PARTS, int QUERIES>
void launch_keys(const AttentionBackwardTensors<bf16>& tensors, const AttentionShape& shape, cudaStream_t stream) {
  using Tiles = KeysTiles<WIDTH, VALUES, PARTS, QUERIES>;
  const dim3 grid(static_cast<unsigned>(shape.sequences * shape.kv_heads),
                  static_cast<unsigned>(ceil_div<int64_t>(shape.tokens, Tiles::keys)), PARTS);
  GPU_LAUNCH((keys_kernel<WIDTH, VALUES, PARTS, QUERIES>), grid, dim3(threads), Tiles::shared_bytes, stream, tensors,
             shape);
}

template <int WIDTH, int VALUES, int PARTS, int STRIPS, int KEYS>
void launch_queries(const AttentionBackwardTensors<bf16>& tensors, const AttentionShape& shape, cudaStream_t stream) {
  using Tiles = QueriesTiles<WIDTH, VALUES, PARTS, STRIPS, KEYS>;
  const dim3 grid(static_cast<unsigned>(shape.sequences * shape.heads),
                  static_cast<unsigned>(ceil_div<int64_t>(shape.tokens, Tiles::queries)), PARTS);
  GPU_LAUNCH((queries_kernel<WIDTH, VALUES, PARTS, STRIPS, KEYS>), grid, dim3(threads), Tiles::shared_bytes, stream,
             tensors, shape);
}

template <int WIDTH, int VALUES, int PARTS, int QUERIES, int STRIPS, int KEYS>
void launch(const AttentionBackwardTensors<bf16>& tensors, const AttentionShape& shape, cudaStream_t stream) {
  launch_keys<WIDTH, VALUES, PARTS, QUERIES>(tensors, shape, stream);
  launch_queries<WIDTH, VALUES, PARTS, STRIPS, KEYS>(tensors, shape, stream);
}

}  // namespace

void attention_backward(const AttentionBackwardTensors<bf16>& tensors, const AttentionShape& shape,
                        cudaStream_t stream) {
  if (shape.one_width()) {
    if (shape.head_dim <= 32) return launch<32, 32, 1, 64, 2, 64>(tensors, shape, stream);
    if (shape.head_dim <= 64) return launch<64, 64, 1, 64, 2, 64>(tensors, shape, stream);
    if (shape.head_dim <= 96) return launch<96, 96, 1, 64, 1, 64>(tensors, shape, stream);
    if (shape.head_dim <= 128) return launch<128, 128, 1, 64, 1, 64>(tensors, shape, stream);
  } else if (shape.head_dim <= 192 && shape.value_dim <= 128) {
    return launch<192, 128, 2, 32, 1, 32>(tensors, shape, stream);
  }
  launch<most_head_dim, most_head_dim, 2, 32, 1, 32>(tensors, shape, stream);
}

}  // namespace strand::gpu
