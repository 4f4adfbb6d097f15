// Cross-layer coupling: masses of tokens (token form), and the joint matrix of two layers with its gradient (batch
// form), as products of tiles in f32.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/partial_sums.h"
#include "kernels/cuda/router_rows.cuh"

namespace strand {

using namespace gpu;

namespace {

// ---- token form -----------------------------------------------------------------------------------------------------

// A warp owns a token; its row of p stands in shared memory for the search. Reads p once, and the selection where the
// sources are the activated experts.
__global__ void __launch_bounds__(RouterShape::most_warps * 32)
    coupling_masses_kernel(bool activated, const float* __restrict__ probs, const int32_t* __restrict__ selected,
                           int64_t tokens, int64_t experts, int64_t top_k, float* __restrict__ source_mass,
                           float* __restrict__ top_mass, int32_t* __restrict__ top_experts) {
  GPU_DYN_SHARED(float, shared);
  const WarpRow warp(shared, experts);
  if (warp.row >= tokens) return;  // a whole warp, and there are no barriers
  const int lane = warp.lane;
  const float* p = probs + warp.row * experts;
  const int64_t slots = warp.row * top_k;
  const float all = row_sum(lane, experts, [&](int64_t e) { return warp.memory[e] = p[e]; });
  float of_sources = 0, of_top = 0;
  if (activated)
    for (int64_t k = lane; k < top_k; k += 32) of_sources += p[selected[slots + k]];
  choose_largest(lane, experts, top_k, warp.memory, [&](int64_t k, int64_t e) {
    if (k % 32 != lane) return;
    top_experts[slots + k] = static_cast<int32_t>(e);
    of_top += p[e];
  });
  of_sources = warp_sum(of_sources);
  of_top = warp_sum(of_top);
  if (lane == 0) {
    source_mass[warp.row] = activated ? of_sources : all;
    top_mass[warp.row] = of_top;
  }
}

constexpr int threads = 256;

// Threads walk the tokens with the stride of the grid. Each block writes one partial sum.
__global__ void __launch_bounds__(threads)
    token_term_kernel(const float* __restrict__ source_mass, const float* __restrict__ top_mass, int64_t tokens,
                      double* __restrict__ partial) {
  __shared__ double scratch[threads / 32];
  double sum = 0;
  for (int64_t t = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x; t < tokens;
       t += static_cast<int64_t>(gridDim.x) * threads)
    sum += static_cast<double>(source_mass[t]) * top_mass[t];
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// ---- batch form: tiles of 32 × 32, of which a thread owns one column and rows y, y + 8, y + 16, y + 24 -------------

constexpr int tile = joint_tile, tile_rows = 8, rows_of_thread = tile / tile_rows;
using Tile = float[tile][tile + 1];

/// p [T, E], of which either all experts of a token count or only the selected ones.
struct SourceProbs {
  const float* probs;
  const int32_t* selected;  ///< nullptr: all
  int64_t tokens, experts, top_k;
};

/// to[t][e] = p of tokens from `first_token` on and experts from `first_expert` on, and zeros outside. All threads call
/// it. It ends with a barrier.
__device__ void load_sources(const SourceProbs& p, int64_t first_token, int64_t first_expert, Tile& to) {
  const int x = static_cast<int>(threadIdx.x);
  for (int y = static_cast<int>(threadIdx.y); y < tile; y += tile_rows) {
    const int64_t t = first_token + y, e = first_expert + x;
    const bool inside = p.selected == nullptr && t < p.tokens && e < p.experts;
    to[y][x] = inside ? p.probs[t * p.experts + e] : 0.0f;
  }
  __syncthreads();
  if (p.selected == nullptr) return;
  const int64_t first = first_token * p.top_k, end = min(first_token + tile, p.tokens) * p.top_k;
  for (int64_t slot = first + static_cast<int64_t>(threadIdx.y) * tile + x; slot < end; slot += tile * tile_rows) {
    const int64_t e = p.selected[slot] - first_expert, t = slot / p.top_k;  // each element at most once
    if (e >= 0 && e < tile) to[t - first_token][e] = p.probs[t * p.experts + first_expert + e];
  }
  __syncthreads();
}

/// to[y][x] = from[first_row + y][first_column + x], or the transpose, and zeros outside. It ends with a barrier.
__device__ void load_matrix(const float* from, int64_t rows, int64_t columns, int64_t first_row, int64_t first_column,
                            bool transposed, Tile& to) {
  const int x = static_cast<int>(threadIdx.x);
  for (int y = static_cast<int>(threadIdx.y); y < tile; y += tile_rows) {
    const int64_t r = first_row + y, c = first_column + x;
    const float value = r < rows && c < columns ? from[r * columns + c] : 0.0f;
    if (transposed) {
      to[x][y] = value;
    } else {
      to[y][x] = value;
    }
  }
  __syncthreads();
}

// A block owns 32 lower and 32 upper experts and the tokens of one split. It writes its part of `partial` [splits, E,
// E']. Every tile of p is read once for each tile of the other side.
__global__ void __launch_bounds__(tile* tile_rows, 1)
    joint_kernel(SourceProbs lower, const float* __restrict__ upper, int64_t upper_experts, int64_t split_tokens,
                 float* __restrict__ partial) {
  __shared__ Tile a, b;
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const int64_t e = static_cast<int64_t>(blockIdx.x) * tile, v = static_cast<int64_t>(blockIdx.y) * tile;
  const int64_t begin = blockIdx.z * split_tokens, end = min(lower.tokens, begin + split_tokens);
  float sum[rows_of_thread] = {};
  for (int64_t t = begin; t < end; t += tile) {
    load_sources(lower, t, e, a);  // split_tokens is a multiple of the tile
    load_matrix(upper, lower.tokens, upper_experts, t, v, false, b);
#pragma unroll 8
    for (int k = 0; k < tile; ++k)
#pragma unroll
      for (int i = 0; i < rows_of_thread; ++i) sum[i] += a[k][y + i * tile_rows] * b[k][x];
    __syncthreads();
  }
  for (int i = 0; i < rows_of_thread; ++i) {
    const int64_t row = e + y + i * tile_rows, column = v + x;
    if (row < lower.experts && column < upper_experts)
      partial[(blockIdx.z * lower.experts + row) * upper_experts + column] = sum[i];
  }
}

/// out[i] = Σ_split partial[split, i], in order.
__global__ void __launch_bounds__(threads)
    add_splits_kernel(const float* __restrict__ partial, int64_t splits, int64_t count, float* __restrict__ out) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (i >= count) return;
  float sum = 0;
#pragma unroll 4
  for (int64_t split = 0; split < splits; ++split) sum += partial[split * count + i];
  out[i] = sum;
}

// A warp owns a row of the joint matrix and searches it in shared memory. The mask may lie where the joint matrix does,
// as the warp has read its row by then. Each block writes one partial sum.
__global__ void __launch_bounds__(RouterShape::most_warps * 32)
    coupling_select_kernel(const float* joint, int64_t rows, int64_t columns, int64_t top_k, float* mask,
                           double* __restrict__ partial) {
  GPU_DYN_SHARED(float, shared);
  __shared__ double sums[RouterShape::most_warps];
  const WarpRow warp(shared, 2 * columns);
  const int lane = warp.lane, warps = static_cast<int>(blockDim.x) / 32;
  double sum = 0;
  if (warp.row < rows) {
    float *searched = warp.memory, *values = searched + columns;
    for_owned(lane, columns, [&](int64_t v) {
      searched[v] = values[v] = joint[warp.row * columns + v];
      mask[warp.row * columns + v] = 0;
    });
    __syncwarp();
    choose_largest(lane, columns, top_k, searched, [&](int64_t, int64_t v) {
      if (v % 32 != lane) return;
      mask[warp.row * columns + v] = 1;  // zeroed by the same lane
      sum += values[v];
    });
  }
  sum = warp_sum(sum);
  if (lane == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < warps; ++w) sum += sums[w];
  partial[blockIdx.x] = sum;
}

// dprobs [T, E'] −= scale sources [T, E] mask: a block owns 32 tokens and 32 upper experts.
__global__ void __launch_bounds__(tile* tile_rows, 1)
    joint_backward_upper_kernel(SourceProbs lower, const float* __restrict__ mask, int64_t upper_experts, float scale,
                                float* __restrict__ dprobs) {
  __shared__ Tile a, b;
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const int64_t t = static_cast<int64_t>(blockIdx.x) * tile, v = static_cast<int64_t>(blockIdx.y) * tile;
  float sum[rows_of_thread] = {};
  for (int64_t e = 0; e < lower.experts; e += tile) {
    load_sources(lower, t, e, a);
    load_matrix(mask, lower.experts, upper_experts, e, v, false, b);
#pragma unroll 8
    for (int k = 0; k < tile; ++k)
#pragma unroll
      for (int i = 0; i < rows_of_thread; ++i) sum[i] += a[y + i * tile_rows][k] * b[k][x];
    __syncthreads();
  }
  for (int i = 0; i < rows_of_thread; ++i) {
    const int64_t token = t + y + i * tile_rows, column = v + x;
    if (token < lower.tokens && column < upper_experts) dprobs[token * upper_experts + column] -= scale * sum[i];
  }
}

/// Whether expert e is a source for token t.
__device__ bool is_source(const SourceProbs& p, int64_t t, int64_t e) {
  if (p.selected == nullptr) return true;
  bool found = false;
  for (int64_t k = 0; k < p.top_k; ++k) found |= p.selected[t * p.top_k + k] == e;
  return found;
}

// dprobs [T, E] −= scale [e is a source] upper [T, E'] maskᵀ: a block owns 32 tokens and 32 lower experts.
__global__ void __launch_bounds__(tile* tile_rows, 1)
    joint_backward_lower_kernel(SourceProbs lower, const float* __restrict__ upper, const float* __restrict__ mask,
                                int64_t upper_experts, float scale, float* __restrict__ dprobs) {
  __shared__ Tile a, b;
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const int64_t t = static_cast<int64_t>(blockIdx.x) * tile, e = static_cast<int64_t>(blockIdx.y) * tile;
  float sum[rows_of_thread] = {};
  for (int64_t v = 0; v < upper_experts; v += tile) {
    load_matrix(upper, lower.tokens, upper_experts, t, v, false, a);
    load_matrix(mask, lower.experts, upper_experts, e, v, true, b);
#pragma unroll 8
    for (int k = 0; k < tile; ++k)
#pragma unroll
      for (int i = 0; i < rows_of_thread; ++i) sum[i] += a[y + i * tile_rows][k] * b[k][x];
    __syncthreads();
  }
  for (int i = 0; i < rows_of_thread; ++i) {
    const int64_t token = t + y + i * tile_rows, expert = e + x;
    if (token < lower.tokens && expert < lower.experts && is_source(lower, token, expert))
      dprobs[token * lower.experts + expert] -= scale * sum[i];
  }
}

SourceProbs sources_of(CouplingSources sources, const Tensor& probs, const Tensor& selected) {
  return {data<float>(probs), sources == CouplingSources::activated ? data<int32_t>(selected) : nullptr, probs.dim(0),
          probs.dim(1), selected.dim(1)};
}

unsigned tiles(int64_t count) {
  return static_cast<unsigned>(ceil_div<int64_t>(count, tile));
}

}  // namespace

void CudaOps::run(const CouplingMasses& op) {
  const int64_t tokens = op.probs.dim(0), experts = op.probs.dim(1);
  if (tokens == 0) return;
  const RouterShape shape(tokens, experts, 1, "CouplingMasses");
  GPU_LAUNCH(coupling_masses_kernel, shape.grid, shape.block, shape.shared_bytes, stream_,
             op.sources == CouplingSources::activated, data<float>(op.probs), data<int32_t>(op.selected), tokens,
             experts, op.top_experts.dim(1), data<float>(op.source_mass), data<float>(op.top_mass),
             data<int32_t>(op.top_experts));
}

void CudaOps::run(const CouplingTokenTerm& op) {
  const int64_t tokens = op.lower_source_mass.dim(0);
  if (tokens == 0) return;
  const int64_t grid = std::min(most_scalar_blocks, ceil_div<int64_t>(tokens, threads));
  double* partial = workspace_of<double>(op, grid);
  GPU_LAUNCH(token_term_kernel, blocks(grid), dim3(threads), 0, stream_, data<float>(op.lower_source_mass),
             data<float>(op.upper_top_mass), tokens, partial);
  add_scalar_sums(stream_, partial, grid, {.count = 1, .out = {data<double>(op.cp)}, .factor = {-op.cp_scale}});
}

void CudaOps::run(const CouplingJoint& op) {
  const SourceProbs lower = sources_of(op.sources, op.lower_probs, op.lower_selected);
  const int64_t upper_experts = op.upper_probs.dim(1), elements = op.joint.elements();
  const dim3 tiles_of_joint(tiles(lower.experts), tiles(upper_experts));
  const int64_t split_tokens = joint_split_tokens(lower.tokens, lower.experts, upper_experts);
  const int64_t splits = std::max<int64_t>(1, ceil_div(lower.tokens, split_tokens));
  float* partial = workspace_of<float>(op, splits * elements);
  GPU_LAUNCH(joint_kernel, dim3(tiles_of_joint.x, tiles_of_joint.y, static_cast<unsigned>(splits)),
             dim3(tile, tile_rows), 0, stream_, lower, data<float>(op.upper_probs), upper_experts, split_tokens,
             partial);
  GPU_LAUNCH(add_splits_kernel, blocks(ceil_div<int64_t>(elements, threads)), dim3(threads), 0, stream_, partial,
             splits, elements, data<float>(op.joint));
}

void CudaOps::run(const CouplingSelect& op) {
  const int64_t rows = op.joint.dim(0), columns = op.joint.dim(1);
  const RouterShape shape(rows, columns, 2, "CouplingSelect");
  double* partial = workspace_of<double>(op, shape.grid.x);
  GPU_LAUNCH(coupling_select_kernel, shape.grid, shape.block, shape.shared_bytes, stream_, data<float>(op.joint), rows,
             columns, op.top_k, data<float>(op.mask), partial);
  add_scalar_sums(stream_, partial, shape.grid.x, {.count = 1, .out = {data<double>(op.cp)}, .factor = {-op.cp_scale}});
}

void CudaOps::run(const CouplingJointBackward& op) {
  const SourceProbs lower = sources_of(op.sources, op.lower_probs, op.lower_selected);
  if (lower.tokens == 0) return;
  const int64_t upper_experts = op.upper_probs.dim(1);
  const auto scale = static_cast<float>(op.cp_scale);
  if (op.side == CouplingJointBackward::Side::lower) {
    GPU_LAUNCH(joint_backward_lower_kernel, dim3(tiles(lower.tokens), tiles(lower.experts)), dim3(tile, tile_rows), 0,
               stream_, lower, data<float>(op.upper_probs), data<float>(op.mask), upper_experts, scale,
               data<float>(op.dprobs));
  } else {
    GPU_LAUNCH(joint_backward_upper_kernel, dim3(tiles(lower.tokens), tiles(upper_experts)), dim3(tile, tile_rows), 0,
               stream_, lower, data<float>(op.mask), upper_experts, scale, data<float>(op.dprobs));
  }
}

}  // namespace strand
