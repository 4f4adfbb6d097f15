// Statistics of the routing and the router's own loss terms: LB, Z, V, and the bias that balances without a loss.
#include <cmath>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/expert_scores.h"
#include "kernels/cpu/token_blocks.h"
#include "kernels/host_numbers.h"

namespace strand {
namespace {

/// counts and sums over the tokens [begin, end)
void gather_statistics(const RoutingStatistics& op, int64_t begin, int64_t end, float* counts, float* sums) {
  const int64_t experts = op.probs.dim(1), top_k = op.selected.dim(1);
  const int32_t* selected = op.selected.as<int32_t>();
  const float* probs = op.probs.as<float>();
  std::fill_n(counts, experts, 0.0f);
  std::fill_n(sums, experts, 0.0f);
  for (int64_t slot = begin * top_k; slot < end * top_k; ++slot) counts[selected[slot]] += 1;
  for (int64_t t = begin; t < end; ++t) {
    const float* row = probs + t * experts;
    simd::for_lanes(experts, [&](int64_t e, auto lanes) {
      simd::store(sums + e, simd::load(sums + e, lanes) + simd::load(row + e, lanes), lanes);
    });
  }
}

/// (logsumexp of the row)², in double
double squared_logsumexp(const float* logits, int64_t experts, float* buffer) {
  const float largest = max_of_row(logits, experts);
  const double lse = largest + std::log(static_cast<double>(exp_of_row(logits, largest, buffer, experts)));
  return lse * lse;
}

float squared_distance(const float* a, const float* b, int64_t n) {
  simd::vfloat total{};
  simd::for_lanes(n, [&](int64_t i, auto lanes) {
    const simd::vfloat difference = simd::load(a + i, lanes) - simd::load(b + i, lanes);
    total += difference * difference;
  });
  return simd::sum(total);
}

double load_balance(const RouterTerms& op, int64_t groups, int64_t experts) {
  const float* counts = op.statistics.as<float>();
  const float* sums = counts + groups * experts;
  double total = 0;
  for (int64_t i = 0; i < groups * experts; ++i) total += static_cast<double>(counts[i]) * sums[i];
  return total * static_cast<double>(experts) / (static_cast<double>(op.top_k) * op.group.tokens * op.group.tokens);
}

}  // namespace

void CpuOps::run(const RoutingStatistics& op) {
  const int64_t experts = op.probs.dim(1), groups = op.statistics.dim(1), tokens = op.probs.dim(0) / groups;
  const int64_t group_blocks = blocks_of(tokens, token_block);
  static thread_local Scratch scratch;
  float* partial = scratch.get<float>(groups * group_blocks * 2 * experts);
  for_blocks(groups * group_blocks, 1, [&](int64_t block, int64_t, int64_t) {
    const int64_t first = block / group_blocks * tokens;
    const int64_t begin = first + block % group_blocks * token_block;
    const int64_t end = std::min(first + tokens, begin + token_block);
    float* counts = partial + block * 2 * experts;
    gather_statistics(op, begin, end, counts, counts + experts);
  });

  float* counts = op.statistics.as<float>();
  float* step_counts = op.step_counts.as<float>();
  for_blocks(experts, block_sizes::statistics_experts, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t e = begin; e < end; ++e) {
      for (int64_t g = 0; g < groups; ++g) {
        double count = 0, sum = 0;
        for (int64_t b = g * group_blocks; b < (g + 1) * group_blocks; ++b) {
          count += partial[b * 2 * experts + e];
          sum += partial[(b * 2 + 1) * experts + e];
        }
        counts[g * experts + e] = static_cast<float>(count);
        counts[(groups + g) * experts + e] = static_cast<float>(sum);
        step_counts[e] += static_cast<float>(count);
      }
    }
  });
}

void CpuOps::run(const RouterTerms& op) {
  const int64_t tokens = op.logits.dim(0), experts = op.logits.dim(1), groups = op.statistics.dim(1);
  const int64_t group_tokens = std::max<int64_t>(1, tokens / groups);
  const float* logits = op.logits.as<float>();
  const float* probs = op.probs.as<float>();
  const float* sums = op.statistics.as<float>() + groups * experts;

  static thread_local Scratch mean_scratch, thread_scratch, partial_scratch;
  float* mean = mean_scratch.get<float>(groups * experts);
  for (int64_t i = 0; i < groups * experts; ++i) mean[i] = static_cast<float>(sums[i] / op.group.tokens);
  const ThreadBuffers buffers(thread_scratch, experts);
  const int64_t blocks = blocks_of(tokens, token_block);
  double* partial = partial_scratch.get<double>(2 * blocks);
  for_blocks(tokens, token_block, [&](int64_t begin, int64_t end, int64_t block) {
    double z = 0, v = 0;
    float* buffer = buffers.mine();
    for (int64_t t = begin; t < end; ++t) {
      z += squared_logsumexp(logits + t * experts, experts, buffer);
      v += squared_distance(probs + t * experts, mean + t / group_tokens * experts, experts);
    }
    partial[2 * block] = z;
    partial[2 * block + 1] = v;
  });
  double z = 0, v = 0;
  for (int64_t block = 0; block < blocks; ++block) z += partial[2 * block], v += partial[2 * block + 1];

  *op.lb.as<double>() += op.lb_share * load_balance(op, groups, experts);
  *op.z.as<double>() += op.token_share * z;
  *op.v.as<double>() -= op.group.share / op.group.tokens * v / static_cast<double>(experts);
}

void CpuOps::run(const RouterBiasUpdate& op) {
  if (step_number(op.numbers, StepNumber::apply) == 0) return;
  const int64_t experts = op.bias.elements();
  const float* counts = op.step_counts.as<float>();
  float* bias = op.bias.as<float>();
  double total = 0;
  for (int64_t e = 0; e < experts; ++e) total += counts[e];
  for (int64_t e = 0; e < experts; ++e) {
    // mean > count, without the rounding of a division
    const double surplus = total - static_cast<double>(experts) * counts[e];
    bias[e] += static_cast<float>(op.rate * ((surplus > 0) - (surplus < 0)));
  }
}

}  // namespace strand
