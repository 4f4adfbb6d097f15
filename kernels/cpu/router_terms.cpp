// Statistics of the routing and the router's own loss terms: LB, Z, V, entropy, and the bias that balances without a
// loss.
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

/// Σ over groups and experts of c Σp
double load_balance(const Tensor& statistics) {
  const int64_t numbers = statistics.elements() / 2;
  const float* counts = statistics.as<float>();
  const float* sums = counts + numbers;
  double total = 0;
  for (int64_t i = 0; i < numbers; ++i) total += static_cast<double>(counts[i]) * sums[i];
  return total;
}

/// The terms that are sums over tokens, of one token or of many.
struct TokenSums {
  double z = 0, v = 0, entropy = 0;
};

/// Sums of the measured terms over the tokens [begin, end). `mean` [groups, E]; `buffer`: E floats.
TokenSums sum_tokens(const RouterTerms& op, int64_t begin, int64_t end, const float* mean, float* buffer) {
  const int64_t experts = op.logits.dim(1);
  const float* logits = op.logits.as<float>();
  const float* probs = op.probs.as<float>();
  TokenSums sums;
  if (op.z) {
    for (int64_t t = begin; t < end; ++t) sums.z += squared_logsumexp(logits + t * experts, experts, buffer);
  }
  if (op.v) {
    const int64_t group_tokens = std::max<int64_t>(1, op.logits.dim(0) / op.statistics.dim(1));
    for (int64_t t = begin; t < end; ++t)
      sums.v += squared_distance(probs + t * experts, mean + t / group_tokens * experts, experts);
  }
  if (op.entropy) {
    for (int64_t t = begin; t < end; ++t) sums.entropy += entropy_of_row(probs + t * experts, experts);
  }
  return sums;
}

/// How the tokens of one group of statistics are cut into blocks.
struct GroupBlocks {
  explicit GroupBlocks(const RoutingStatistics& op)
      : groups(op.statistics.dim(1)), tokens(op.probs.dim(0) / groups), blocks(blocks_of(tokens, token_block)) {}
  int64_t groups;
  int64_t tokens;  ///< of a group
  int64_t blocks;  ///< of a group
};

struct StatisticsBuffers {
  StatisticsBuffers(Workspace& memory, const RoutingStatistics& op)
      : partial(memory.take<float>(GroupBlocks(op).groups * GroupBlocks(op).blocks * 2 * op.probs.dim(1))) {}
  float* partial;  ///< [groups, blocks of a group, 2, E] counts and sums
};

bool sums_tokens(const RouterTerms& op) {
  return op.z || op.v || op.entropy;
}

struct TermBuffers {
  TermBuffers(Workspace& memory, const RouterTerms& op)
      : mean(memory.take<float>(op.v ? op.statistics.elements() / 2 : 0)),
        token(memory, sums_tokens(op) ? op.logits.dim(1) : 0),
        partial(memory.take<TokenSums>(sums_tokens(op) ? blocks_of(op.logits.dim(0), token_block) : 0)) {}
  float* mean;          ///< [groups, E], only for V
  ThreadBuffers token;  ///< [E]
  TokenSums* partial;   ///< [blocks]
};

}  // namespace

void CpuOps::run(const RoutingStatistics& op) {
  const GroupBlocks cut(op);
  const int64_t experts = op.probs.dim(1), groups = cut.groups, tokens = cut.tokens, group_blocks = cut.blocks;
  float* const partial = buffers<StatisticsBuffers>(op).partial;
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
  if (op.lb) *op.lb.as<double>() += op.lb_scale * load_balance(op.statistics);
  if (!sums_tokens(op)) return;
  const auto memory = buffers<TermBuffers>(op);
  const int64_t tokens = op.logits.dim(0);
  float* const mean = memory.mean;
  if (op.v) {
    const int64_t numbers = op.statistics.elements() / 2;
    const float* sums = op.statistics.as<float>() + numbers;
    for (int64_t i = 0; i < numbers; ++i) mean[i] = static_cast<float>(op.mean_share * sums[i]);
  }
  TokenSums* const partial = memory.partial;
  for_blocks(tokens, token_block, [&](int64_t begin, int64_t end, int64_t block) {
    partial[block] = sum_tokens(op, begin, end, mean, memory.token.mine());
  });
  TokenSums sums;
  for (int64_t block = 0; block < blocks_of(tokens, token_block); ++block) {
    sums.z += partial[block].z;
    sums.v += partial[block].v;
    sums.entropy += partial[block].entropy;
  }
  if (op.z) *op.z.as<double>() += op.z_scale * sums.z;
  if (op.v) *op.v.as<double>() -= op.v_scale * sums.v;
  if (op.entropy) *op.entropy.as<double>() += op.entropy_scale * sums.entropy;
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

size_t CpuWorkspaces::bytes(const RoutingStatistics& op) const {
  return workspace_bytes<StatisticsBuffers>(op);
}
size_t CpuWorkspaces::bytes(const RouterTerms& op) const {
  return workspace_bytes<TermBuffers>(op);
}

}  // namespace strand
