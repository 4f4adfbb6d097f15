// The router's own loss terms, and the gradient of everything that depends on its logits, gathered in one kernel.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/partial_sums.h"
#include "kernels/cuda/router_rows.cuh"

namespace strand {

using namespace gpu;

namespace {

/// The counts and sums of p [groups, E] that Route's choices gave, and which of them belong to a token.
struct Statistics {
  const float *counts, *sums;
  int64_t group_tokens, groups;
  float mean_share;  ///< 1 / tokens behind one group
};

Statistics statistics_of(const Tensor& statistics, int64_t tokens, double mean_share) {
  if (!statistics) return {};
  const int64_t groups = statistics.dim(1), experts = statistics.dim(2);
  const float* counts = data<float>(statistics);
  return {counts, counts + groups * experts, std::max<int64_t>(1, tokens / groups), groups,
          static_cast<float>(mean_share)};
}

// ---- values ---------------------------------------------------------------------------------------------------------

struct TermsArguments {
  const float *logits, *probs;
  Statistics statistics;
  int64_t tokens, experts;
  bool lb, z, v, entropy;
};
constexpr int terms = 4, terms_threads = 256;

__device__ double logsumexp(const float* logits, int lane, int64_t experts) {
  const float largest = row_max(lane, experts, [&](int64_t e) { return logits[e]; });
  const float total = row_sum(lane, experts, [&](int64_t e) { return expf(logits[e] - largest); });
  return largest + log(static_cast<double>(total));
}

// Warps walk the tokens with the stride of the grid, lanes the experts; threads walk the statistics for LB. One partial
// sum of each term a block. Reads logits and p once from memory.
__global__ void __launch_bounds__(terms_threads) router_terms_kernel(TermsArguments p, double* __restrict__ partial) {
  __shared__ double scratch[terms_threads / 32];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * terms_threads + threadIdx.x;
  const int64_t threads = static_cast<int64_t>(gridDim.x) * terms_threads;
  double lb = 0, z = 0, v = 0, entropy = 0;
  if (p.lb)
    for (int64_t i = first; i < p.statistics.groups * p.experts; i += threads)
      lb += static_cast<double>(p.statistics.counts[i]) * p.statistics.sums[i];
  for (int64_t t = first / 32; t < p.tokens; t += threads / 32) {
    if (p.z) {
      const double lse = logsumexp(p.logits + t * p.experts, lane, p.experts);
      if (lane == 0) z += lse * lse;
    }
    if (p.v) {
      const float* sums = p.statistics.sums + t / p.statistics.group_tokens * p.experts;
      float squares = 0;
      for_owned(lane, p.experts, [&](int64_t e) {
        const float deviation = p.probs[t * p.experts + e] - p.statistics.mean_share * sums[e];
        squares += deviation * deviation;
      });
      v += squares;
    }
    if (p.entropy) {
      float sum = 0;
      for_owned(lane, p.experts, [&](int64_t e) {
        const float prob = p.probs[t * p.experts + e];
        if (prob > 0) sum -= prob * logf(prob);
      });
      entropy += sum;
    }
  }
  const double sums[terms] = {lb, z, v, entropy};
#pragma unroll
  for (int i = 0; i < terms; ++i) {
    const double sum = block_sum(sums[i], scratch);
    if (threadIdx.x == 0) partial[blockIdx.x * terms + i] = sum;
  }
}

// ---- gradient -------------------------------------------------------------------------------------------------------

struct BackwardArguments {
  const float *logits, *probs, *gates, *dgates;
  const int32_t *selected, *top_experts;
  const float *above_top_mass, *below_source_mass, *dprobs;
  float* dlogits;
  Statistics statistics;
  int64_t tokens, experts, top_k, below_top_k;
  RouterScore score;
  bool renormalize, sources_activated;
  float routed_scale;
  float lb;       ///< ∂LB/∂p = lb · c
  float v;        ///< ∂V/∂p = −v · (p − P)
  float entropy;  ///< ∂entropy/∂p = −entropy · ln p, and a constant, which p's sum of 1 makes void
  float cp;
  float z;  ///< ∂q = z · lse · softmax(q)
};

/// row[experts[k]] += value(k), by lane k: the experts of a list differ from each other, so no two lanes meet. Stands
/// between two barriers of the warp.
template <typename Value>
__device__ void add_at(float* row, const int32_t* experts, int64_t count, int lane, const Value& value) {
  __syncwarp();
  for (int64_t k = lane; k < count; k += 32) row[experts[k]] += value(k);
  __syncwarp();
}

/// Sets row = ∂loss/∂p of a token, from LB, V, both roles in CP's token form, and what the caller adds.
__device__ void gradient_of_probs(const BackwardArguments& p, const WarpRow& warp) {
  const int64_t t = warp.row, at = t * p.experts;
  const bool balance = p.lb != 0, variance = p.v != 0;
  const int64_t group = balance || variance ? t / p.statistics.group_tokens * p.experts : 0;
  const float above = p.above_top_mass != nullptr ? p.cp * p.above_top_mass[t] : 0.0f;
  for_owned(warp.lane, p.experts, [&](int64_t e) {
    float gradient = p.dprobs != nullptr ? p.dprobs[at + e] : 0.0f;
    if (balance) gradient += p.lb * p.statistics.counts[group + e];
    if (variance) gradient -= p.v * (p.probs[at + e] - p.statistics.mean_share * p.statistics.sums[group + e]);
    if (p.entropy != 0 && p.probs[at + e] > 0) gradient -= p.entropy * logf(p.probs[at + e]);
    if (!p.sources_activated) gradient -= above;
    warp.memory[e] = gradient;
  });
  if (p.sources_activated && p.above_top_mass != nullptr)
    add_at(warp.memory, p.selected + t * p.top_k, p.top_k, warp.lane, [&](int64_t) { return -above; });
  if (p.below_source_mass != nullptr) {
    const float below = p.cp * p.below_source_mass[t];
    add_at(warp.memory, p.top_experts + t * p.below_top_k, p.below_top_k, warp.lane, [&](int64_t) { return -below; });
  }
}

/// Σ_k g_k ∂g_k / routed_scale: what renormalization takes off every ∂g_k. Dividing first makes the weight of an only
/// expert exactly 1 and its gradient exactly 0.
__device__ float renormalization(const BackwardArguments& p, const float* gates, const float* dgates, int lane) {
  if (!p.renormalize || p.routed_scale == 0) return 0;
  float sum = 0;
  for (int64_t k = lane; k < p.top_k; k += 32) sum += gates[k] / p.routed_scale * dgates[k];
  return warp_sum(sum);
}

// A warp owns a token, whose ∂p and then ∂q stand in shared memory; lane i owns elements i, i + 32, … and, of the
// token's choices, i, i + 32, …. Reads logits, p and what else there is of a token once from memory, and writes dlogits
// once.
__global__ void __launch_bounds__(RouterShape::most_warps * 32) router_backward_kernel(BackwardArguments p) {
  GPU_DYN_SHARED(float, shared);
  const WarpRow warp(shared, p.experts);
  if (warp.row >= p.tokens) return;  // a whole warp, and there are no barriers
  const int lane = warp.lane;
  float* row = warp.memory;
  const float *logits = p.logits + warp.row * p.experts, *probs = p.probs + warp.row * p.experts;
  const float *gates = p.gates + warp.row * p.top_k, *dgates = p.dgates + warp.row * p.top_k;
  const int32_t* selected = p.selected + warp.row * p.top_k;

  gradient_of_probs(p, warp);
  const bool plain_softmax = p.score == RouterScore::softmax && !p.renormalize;
  if (plain_softmax) add_at(row, selected, p.top_k, lane, [&](int64_t k) { return p.routed_scale * dgates[k]; });
  __syncwarp();
  const float mean = row_sum(lane, p.experts, [&](int64_t e) { return probs[e] * row[e]; });
  if (p.score == RouterScore::softmax) {
    for_owned(lane, p.experts, [&](int64_t e) { row[e] = probs[e] * (row[e] - mean); });
  } else {  // ∂s = (∂p − Σ p ∂p) / Σ s, and ∂q = ∂s s (1 − s)
    const float total = row_sum(lane, p.experts, [&](int64_t e) { return sigmoid(logits[e]); });
    for_owned(lane, p.experts, [&](int64_t e) {
      const float s = sigmoid(logits[e]);
      row[e] = s * (1.0f - s) * (row[e] - mean) / total;
    });
  }
  if (!plain_softmax) {
    // Renormalized, g is a softmax over the selected logits alone; sigmoid has ∂q_k = g_k (1 − s_k) (∂g_k − shift).
    const float shift = renormalization(p, gates, dgates, lane);
    add_at(row, selected, p.top_k, lane, [&](int64_t k) {
      const float slope = p.score == RouterScore::softmax ? 1.0f : 1.0f - sigmoid(logits[selected[k]]);
      return gates[k] * slope * (dgates[k] - shift);
    });
  }
  __syncwarp();

  float largest = 0, factor = 0;
  if (p.z != 0) {
    largest = row_max(lane, p.experts, [&](int64_t e) { return logits[e]; });
    const float total = row_sum(lane, p.experts, [&](int64_t e) { return expf(logits[e] - largest); });
    factor = p.z * (largest + logf(total)) / total;
  }
  float* dlogits = p.dlogits + warp.row * p.experts;
  for_owned(lane, p.experts,
            [&](int64_t e) { dlogits[e] = row[e] + (factor != 0 ? factor * expf(logits[e] - largest) : 0.0f); });
}

// ---- selection bias -------------------------------------------------------------------------------------------------

constexpr int bias_threads = 256;

// One block takes the sum of the counts and then the sign of every expert. mean > count is asked without a rounded
// division.
__global__ void __launch_bounds__(bias_threads)
    router_bias_kernel(const float* __restrict__ counts, double rate, const double* __restrict__ numbers,
                       float* __restrict__ bias, int64_t experts) {
  __shared__ double scratch[bias_threads / 32];
  if (numbers[place(StepNumber::apply)] == 0) return;  // the whole block
  double sum = 0;
  for (int64_t e = threadIdx.x; e < experts; e += bias_threads) sum += counts[e];
  sum = block_sum(sum, scratch);
  for (int64_t e = threadIdx.x; e < experts; e += bias_threads) {
    const double surplus = sum - static_cast<double>(experts) * counts[e];
    if (surplus > 0) bias[e] += static_cast<float>(rate);
    if (surplus < 0) bias[e] -= static_cast<float>(rate);
  }
}

}  // namespace

void CudaOps::run(const RouterTerms& op) {
  const int64_t tokens = op.logits.dim(0), experts = op.logits.dim(1);
  if (tokens == 0) return;
  const TermsArguments p{.logits = data<float>(op.logits),
                         .probs = data<float>(op.probs),
                         .statistics = statistics_of(op.statistics, tokens, op.mean_share),
                         .tokens = tokens,
                         .experts = experts,
                         .lb = bool(op.lb),
                         .z = bool(op.z),
                         .v = bool(op.v),
                         .entropy = bool(op.entropy)};
  const int64_t grid = std::min(most_scalar_blocks, ceil_div<int64_t>(tokens, terms_threads / 32));
  double* partial = workspace_of<double>(op, grid * terms);
  GPU_LAUNCH(router_terms_kernel, blocks(grid), dim3(terms_threads), 0, stream_, p, partial);
  add_scalar_sums(stream_, partial, grid,
                  {.count = terms,
                   .out = {data<double>(op.lb), data<double>(op.z), data<double>(op.v), data<double>(op.entropy)},
                   .factor = {op.lb_scale, op.z_scale, -op.v_scale, op.entropy_scale}});
}

void CudaOps::run(const RouterBackward& op) {
  const int64_t tokens = op.logits.dim(0), experts = op.logits.dim(1);
  if (tokens == 0) return;
  const RouterShape shape(tokens, experts, 1, "RouterBackward");
  const BackwardArguments p{.logits = data<float>(op.logits),
                            .probs = data<float>(op.probs),
                            .gates = data<float>(op.gates),
                            .dgates = data<float>(op.dgates),
                            .selected = data<int32_t>(op.selected),
                            .top_experts = data<int32_t>(op.top_experts),
                            .above_top_mass = data<float>(op.above_top_mass),
                            .below_source_mass = data<float>(op.below_source_mass),
                            .dprobs = data<float>(op.dprobs),
                            .dlogits = data<float>(op.dlogits),
                            .statistics = statistics_of(op.statistics, tokens, op.mean_share),
                            .tokens = tokens,
                            .experts = experts,
                            .top_k = op.gating.top_k,
                            .below_top_k = op.top_experts ? op.top_experts.dim(1) : 0,
                            .score = op.gating.score,
                            .renormalize = op.gating.renormalize,
                            .sources_activated = op.cp_sources == CouplingSources::activated,
                            .routed_scale = static_cast<float>(op.gating.routed_scale),
                            .lb = static_cast<float>(op.lb_scale),
                            .v = static_cast<float>(2 * op.v_scale),
                            .entropy = static_cast<float>(op.entropy_scale),
                            .cp = static_cast<float>(op.cp_scale),
                            .z = static_cast<float>(2 * op.z_scale)};
  GPU_LAUNCH(router_backward_kernel, shape.grid, shape.block, shape.shared_bytes, stream_, p);
}

void CudaOps::run(const RouterBiasUpdate& op) {
  GPU_LAUNCH(router_bias_kernel, dim3(1), dim3(bias_threads), 0, stream_, data<float>(op.step_counts), op.rate,
             data<double>(op.numbers), data<float>(op.bias), op.bias.elements());
}

}  // namespace strand
