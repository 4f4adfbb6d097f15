// Scores, selection and routing weights.
#include <cmath>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/expert_scores.h"
#include "kernels/cpu/token_blocks.h"

namespace strand {
namespace {

/// Softmax over the selected logits alone equals p / Σ p, and cannot divide by zero when the bias has selected experts
/// whose p underflows.
void renormalized_softmax_gates(const float* logits, const int32_t* selected, int64_t top_k, float scale,
                                float* gates) {
  float largest = logits[selected[0]];
  for (int64_t k = 1; k < top_k; ++k) largest = std::max(largest, logits[selected[k]]);
  float total = 0;
  for (int64_t k = 0; k < top_k; ++k) total += gates[k] = std::exp(logits[selected[k]] - largest);
  for (int64_t k = 0; k < top_k; ++k) gates[k] *= scale / total;
}

void sigmoid_gates(const Gating& gating, const float* scores, const int32_t* selected, float* gates) {
  float total = 0;
  for (int64_t k = 0; k < gating.top_k; ++k) total += gates[k] = scores[selected[k]];
  const float scale = static_cast<float>(gating.routed_scale);
  const float norm = gating.renormalize ? total : 1.0f;
  for (int64_t k = 0; k < gating.top_k; ++k) gates[k] = gates[k] / norm * scale;
}

/// scores = s; probs = p
void score_token(RouterScore score, const float* logits, int64_t experts, float* scores, float* probs) {
  if (score == RouterScore::softmax) {
    const float total = exp_of_row(logits, max_of_row(logits, experts), probs, experts);
    scale_row(probs, 1.0f / total, experts);
    std::copy_n(probs, experts, scores);
  } else {
    const float total = sigmoid_of_row(logits, scores, experts);
    std::copy_n(scores, experts, probs);
    scale_row(probs, 1.0f / total, experts);
  }
}

void gate_token(const Gating& gating, const float* logits, const float* scores, const int32_t* selected, float* gates) {
  const float scale = static_cast<float>(gating.routed_scale);
  if (gating.score == RouterScore::sigmoid) {
    sigmoid_gates(gating, scores, selected, gates);
  } else if (gating.renormalize) {
    renormalized_softmax_gates(logits, selected, gating.top_k, scale, gates);
  } else {
    for (int64_t k = 0; k < gating.top_k; ++k) gates[k] = scale * scores[selected[k]];
  }
}

/// Makes the s + b of experts whose group is not kept less than every other. group_scores: [groups], overwritten.
void drop_groups(const Gating& gating, float* biased, int64_t experts, float* group_scores) {
  const int64_t members = experts / gating.groups;
  for (int64_t group = 0; group < gating.groups; ++group) {
    int32_t best[2];
    const float* row = biased + group * members;
    top_k_of_row(row, members, 2, best);
    group_scores[group] = row[best[0]] + row[best[1]];
  }
  for (int64_t group = 0; group < gating.groups; ++group) {
    const float score = group_scores[group];
    int64_t better = 0;  // groups that come before this one
    for (int64_t other = 0; other < gating.groups; ++other)
      better += group_scores[other] > score || (group_scores[other] == score && other < group);
    if (better >= gating.groups_kept)
      std::fill_n(biased + group * members, members, -std::numeric_limits<float>::infinity());
  }
}

struct RouteBuffers {
  RouteBuffers(Workspace& memory, const Route& op) : scores(memory, 2 * op.logits.dim(1) + op.gating.groups) {}
  ThreadBuffers scores;  ///< [2, E] scores, and scores with bias; [groups] scores of groups
};

}  // namespace

void CpuOps::run(const Route& op) {
  const int64_t experts = op.logits.dim(1), top_k = op.gating.top_k;
  const float* all_logits = op.logits.as<float>();
  const float* bias = op.bias ? op.bias.as<float>() : nullptr;
  const bool grouped = op.gating.groups > 1;
  float* all_probs = op.probs.as<float>();
  int32_t* all_selected = op.selected.as<int32_t>();
  float* all_gates = op.gates.as<float>();

  const auto memory = buffers<RouteBuffers>(op);
  for_blocks(op.logits.dim(0), token_block, [&](int64_t begin, int64_t end, int64_t) {
    float* scores = memory.scores.mine();
    float* biased = scores + experts;
    for (int64_t t = begin; t < end; ++t) {
      const float* logits = all_logits + t * experts;
      int32_t* selected = all_selected + t * top_k;
      score_token(op.gating.score, logits, experts, scores, all_probs + t * experts);
      if (bias) {
        for (int64_t e = 0; e < experts; ++e) biased[e] = scores[e] + bias[e];
      } else if (grouped) {
        std::copy_n(scores, experts, biased);
      }
      if (grouped) drop_groups(op.gating, biased, experts, biased + experts);
      top_k_of_row(bias || grouped ? biased : scores, experts, top_k, selected);
      gate_token(op.gating, logits, scores, selected, all_gates + t * top_k);
    }
  });
}

size_t CpuWorkspaces::bytes(const Route& op) const {
  return workspace_bytes<RouteBuffers>(op);
}

}  // namespace strand
