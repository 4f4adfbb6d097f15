// Scores, selection and routing weights in one kernel, and what is counted of them.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/router_rows.cuh"

namespace strand {

using namespace gpu;

namespace {

struct RouteArguments {
  const float *logits, *bias;
  float *probs, *gates;
  int32_t* selected;
  int64_t tokens, experts, top_k;
  int64_t groups, groups_kept;
  RouterScore score;
  bool renormalize;
  float routed_scale;

  /// How many rows of E floats a warp needs: s, the row that is searched, and with groups their scores.
  __host__ __device__ int arrays() const { return groups > 1 ? 3 : 2; }
};

/// The score behind one gate: with renormalized softmax, exp(q − m) for a common m (a softmax over the selected logits
/// alone, which cannot divide by zero when the bias selects experts whose p underflows), else s.
__device__ float gate_score(const RouteArguments& p, const float* logits, float score, int64_t expert, float highest) {
  return p.renormalize && p.score == RouterScore::softmax ? expf(logits[expert] - highest) : score;
}

/// Makes the searched number of experts whose group is not kept less than every other. A lane scores the groups i,
/// i + 32, … by the sum of their two largest. Begins and ends with a barrier of the warp.
__device__ void drop_groups(const RouteArguments& p, float* searched, float* group_scores, int lane) {
  const int64_t members = p.experts / p.groups;
  __syncwarp();  // a lane reads what others wrote
  for_owned(lane, p.groups, [&](int64_t group) {
    const float* row = searched + group * members;
    float first = fmaxf(row[0], row[1]), second = fminf(row[0], row[1]);
    for (int64_t e = 2; e < members; ++e) {
      second = fmaxf(second, fminf(first, row[e]));
      first = fmaxf(first, row[e]);
    }
    group_scores[group] = first + second;
  });
  __syncwarp();
  choose_largest(lane, p.groups, p.groups_kept, group_scores, [](int64_t, int64_t) {});
  __syncwarp();  // every lane reads which keys were taken
  const unsigned* keys = reinterpret_cast<const unsigned*>(group_scores);
  for_owned(lane, p.experts, [&](int64_t e) {
    if (keys[e / members] != 0) searched[e] = -INFINITY;
  });
  __syncwarp();
}

// A warp owns a token. Scores s stand in shared memory beside the row that is searched (s + bias). Lane i keeps the
// choices i, i + 32, … of the token and writes them. Reads the logits twice (the second time from cache), writes p,
// the selection and the gates once.
__global__ void __launch_bounds__(RouterShape::most_warps * 32) route_kernel(RouteArguments p) {
  GPU_DYN_SHARED(float, shared);
  const WarpRow warp(shared, p.arrays() * p.experts);
  if (warp.row >= p.tokens) return;  // a whole warp, and there are no barriers
  const int lane = warp.lane;
  float *scores = warp.memory, *searched = scores + p.experts;
  const float* logits = p.logits + warp.row * p.experts;
  float* probs = p.probs + warp.row * p.experts;

  if (p.score == RouterScore::softmax) {
    const float largest = row_max(lane, p.experts, [&](int64_t e) { return logits[e]; });
    const float total = row_sum(lane, p.experts, [&](int64_t e) { return scores[e] = expf(logits[e] - largest); });
    for_owned(lane, p.experts, [&](int64_t e) { probs[e] = scores[e] /= total; });
  } else {
    const float total = row_sum(lane, p.experts, [&](int64_t e) { return scores[e] = sigmoid(logits[e]); });
    for_owned(lane, p.experts, [&](int64_t e) { probs[e] = scores[e] / total; });
  }
  for_owned(lane, p.experts, [&](int64_t e) { searched[e] = p.bias != nullptr ? scores[e] + p.bias[e] : scores[e]; });
  if (p.groups > 1) drop_groups(p, searched, searched + p.experts, lane);
  __syncwarp();  // every lane reads the scores of what is chosen

  int32_t* selected = p.selected + warp.row * p.top_k;
  float* gates = p.gates + warp.row * p.top_k;
  float highest = -INFINITY;
  choose_largest(lane, p.experts, p.top_k, searched, [&](int64_t k, int64_t e) {
    highest = fmaxf(highest, logits[e]);
    if (k % 32 == lane) selected[k] = static_cast<int32_t>(e);
  });
  float sum = 0;
  for (int64_t k = lane; k < p.top_k; k += 32)
    sum += gates[k] = gate_score(p, logits, scores[selected[k]], selected[k], highest);
  sum = warp_sum(sum);
  for (int64_t k = lane; k < p.top_k; k += 32) gates[k] = (p.renormalize ? gates[k] / sum : gates[k]) * p.routed_scale;
}

// ---- statistics -----------------------------------------------------------------------------------------------------

constexpr int tile_experts = 32, tile_tokens = 16;

// A block owns 32 experts and a chunk of the tokens of a group. Thread (e, i) adds p of tokens i, i + 16, …; the first
// row of threads adds these 16 sums in order. Selections are counted in integers. Reads the chunk's p once (128 bytes a
// warp) and its selection once for every 32 experts; writes counts and sums [groups · chunks, E] each.
__global__ void __launch_bounds__(tile_experts* tile_tokens)
    chunk_statistics_kernel(const float* __restrict__ probs, const int32_t* __restrict__ selected, int64_t group_tokens,
                            int64_t chunk_tokens, int64_t experts, int64_t top_k, float* counts, float* sums) {
  __shared__ float partial[tile_tokens][tile_experts];
  __shared__ int count[tile_experts];
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const int64_t first_expert = static_cast<int64_t>(blockIdx.x) * tile_experts, expert = first_expert + x;
  const int64_t group = blockIdx.z, chunk = blockIdx.y, first = group * group_tokens;
  const int64_t begin = first + chunk * chunk_tokens, end = first + min(group_tokens, (chunk + 1) * chunk_tokens);
  if (y == 0) count[x] = 0;
  __syncthreads();
  float sum = 0;
  if (expert < experts)
    for (int64_t t = begin + y; t < end; t += tile_tokens) sum += probs[t * experts + expert];
  partial[y][x] = sum;
  for (int64_t slot = begin * top_k + y * tile_experts + x; slot < end * top_k; slot += tile_experts * tile_tokens) {
    const int64_t e = selected[slot] - first_expert;
    if (e >= 0 && e < tile_experts) atomicAdd(&count[e], 1);
  }
  __syncthreads();
  if (y != 0 || expert >= experts) return;
  for (int i = 1; i < tile_tokens; ++i) sum += partial[i][x];
  const int64_t at = (group * gridDim.y + chunk) * experts + expert;
  sums[at] = sum;
  counts[at] = static_cast<float>(count[x]);
}

// A block owns 32 experts. Thread (e, i) adds the chunks of groups i, i + 16, … and writes their statistics; the first
// row of threads adds the counts of all groups to the step's. The chunks of a group may be the statistics themselves.
__global__ void __launch_bounds__(tile_experts* tile_tokens)
    add_chunks_kernel(const float* counts, const float* sums, int64_t groups, int64_t chunks, int64_t experts,
                      float* statistics, float* step_counts) {
  __shared__ float partial[tile_tokens][tile_experts];
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const int64_t expert = static_cast<int64_t>(blockIdx.x) * tile_experts + x;
  float all = 0;
  if (expert < experts) {
    for (int64_t group = y; group < groups; group += tile_tokens) {
      float count = 0, sum = 0;
      for (int64_t chunk = group * chunks; chunk < (group + 1) * chunks; ++chunk) {
        count += counts[chunk * experts + expert];
        sum += sums[chunk * experts + expert];
      }
      statistics[group * experts + expert] = count;
      statistics[(groups + group) * experts + expert] = sum;
      all += count;
    }
  }
  partial[y][x] = all;
  __syncthreads();
  if (y != 0 || expert >= experts) return;
  for (int i = 1; i < tile_tokens; ++i) all += partial[i][x];
  step_counts[expert] += all;
}

}  // namespace

void CudaOps::run(const Route& op) {
  const int64_t tokens = op.logits.dim(0), experts = op.logits.dim(1);
  if (tokens == 0) return;
  const RouteArguments p{.logits = data<float>(op.logits),
                         .bias = data<float>(op.bias),
                         .probs = data<float>(op.probs),
                         .gates = data<float>(op.gates),
                         .selected = data<int32_t>(op.selected),
                         .tokens = tokens,
                         .experts = experts,
                         .top_k = op.gating.top_k,
                         .groups = op.gating.groups,
                         .groups_kept = op.gating.groups_kept,
                         .score = op.gating.score,
                         .renormalize = op.gating.renormalize,
                         .routed_scale = static_cast<float>(op.gating.routed_scale)};
  const RouterShape shape(tokens, experts, p.arrays(), "Route");
  GPU_LAUNCH(route_kernel, shape.grid, shape.block, shape.shared_bytes, stream_, p);
}

void CudaOps::run(const RoutingStatistics& op) {
  const int64_t tokens = op.probs.dim(0), experts = op.probs.dim(1), groups = op.statistics.dim(1);
  const int64_t group_tokens = tokens / groups;
  const int64_t chunks = statistics_chunks(groups, group_tokens);
  float* statistics = data<float>(op.statistics);
  float* counts = chunks == 1 ? statistics : workspace_of<float>(op, 2 * groups * chunks * experts);
  float* sums = counts + groups * chunks * experts;
  const auto tiles = static_cast<unsigned>(ceil_div<int64_t>(experts, tile_experts));
  const dim3 block(tile_experts, tile_tokens);
  constexpr int64_t most_groups = 65535;  // of a grid's third dimension
  for (int64_t first = 0; first < groups; first += most_groups) {
    const int64_t here = std::min(most_groups, groups - first), at = first * chunks * experts;
    GPU_LAUNCH(chunk_statistics_kernel, dim3(tiles, static_cast<unsigned>(chunks), static_cast<unsigned>(here)), block,
               0, stream_, data<float>(op.probs) + first * group_tokens * experts,
               data<int32_t>(op.selected) + first * group_tokens * op.selected.dim(1), group_tokens,
               ceil_div(group_tokens, chunks), experts, op.selected.dim(1), counts + at, sums + at);
  }
  GPU_LAUNCH(add_chunks_kernel, dim3(tiles), block, 0, stream_, counts, sums, groups, chunks, experts, statistics,
             data<float>(op.step_counts));
}

}  // namespace strand
