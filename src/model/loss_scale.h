#pragma once
// Every scale factor of the objective, in one place.
//
// The target (docs/mathematics.md, section 3): every term is a mean over the tokens of the optimizer step, all
// micro-steps and ranks together, so neither its value nor its gradient depends on how the step is cut. Hence
//
//   additive terms   weight · (1/T) Σ_t f_t           T = tokens of the step         → per token: 1/T
//   CE               (1/V) Σ_{valid t} −log p_t       V = valid targets of the step  → per target: 1/V
//   LB, V            (1/n) Σ_groups f(c, P)           n = groups of the step, P = mean over the tokens of the group
//                    sequence:   a group is a sequence of S tokens,  n = T/S         → per group: S/T
//                    microbatch: a group is a micro-step on all ranks, n = M         → per group: 1/M
//   CP, batch form   (1/M) Σ_micro-steps f(P), P = mean over the micro-step's tokens → per token: 1/(tokens · M)
//
// Ranks sum their parts of each term and of each gradient, with no divisor. Where all ranks compute the same number (LB
// under microbatch, CP's batch form: statistics are all-reduced first), each adds 1/ranks of it. That holds for experts
// as for dense weights: the exchange brings an expert the rows, and so the gradients, of all tokens of its expert
// group, and the reduction over replicas adds those of the other groups. Together these are all tokens, once, whatever
// EP is.
#include "config/config.h"
#include "kernels/ops/router.h"

namespace strand {

/// What the host knows about an optimizer step before it begins.
struct StepShape {
  int64_t tokens = 0;       ///< T, all micro-steps and ranks
  int64_t micro_steps = 1;  ///< M
  int64_t ranks = 1;        ///< N
};

/// The objective: the weights of LossConfig, and that of CE, which is 1 unless somebody asks for another term's
/// gradient.
struct Objective {
  LossConfig losses;
  double ce_weight = 1.0;
  /// Values of terms whose weight is 0 are measured too, unless that costs messages (SP when experts are spread over
  /// ranks) and nobody asks for them.
  enum class Unweighted : uint8_t { measured, left_out } unweighted = Unweighted::measured;
};

/// CE's factor: 1 / valid targets of the step, all micro-steps and ranks; 0 when there is none. It depends on the data,
/// so it reaches the device as StepNumber::target_share.
inline double target_share(int64_t valid_targets) {
  return valid_targets > 0 ? 1.0 / static_cast<double>(valid_targets) : 0.0;
}

struct LossScale {
  double token_share = 0;   ///< 1 / T
  double sample_scale = 1;  ///< 1 / sp_token_fraction: sampled tokens stand for all
  GroupScale group;         ///< of LB and V
  int64_t groups = 1;       ///< groups in one rank's micro-batch
  double lb_value_share = 0;
  double joint_share = 0;        ///< gradient of one entry of Σ_t p_te p_tν (CP's batch form)
  double joint_value_share = 0;  ///< its value

  /// `sequences` of `sequence_tokens` in this rank's micro-batch; `micro_tokens` in the micro-step of all ranks.
  LossScale(const LossConfig& losses, const StepShape& step, int64_t sequences, int64_t sequence_tokens,
            int64_t micro_tokens) {
    const double tokens = static_cast<double>(step.tokens);
    const double per_micro_step = 1.0 / static_cast<double>(step.micro_steps);
    const double per_rank = 1.0 / static_cast<double>(step.ranks);
    token_share = 1.0 / tokens;
    sample_scale = 1.0 / losses.sp_token_fraction;
    if (losses.lb_scope == StatisticsScope::sequence) {
      groups = sequences;
      group = {static_cast<double>(sequence_tokens), static_cast<double>(sequence_tokens) / tokens};
      lb_value_share = group.share;
    } else {
      groups = 1;
      group = {static_cast<double>(micro_tokens), per_micro_step};
      lb_value_share = group.share * per_rank;
    }
    joint_share = per_micro_step / static_cast<double>(micro_tokens);
    joint_value_share = joint_share * per_rank;
  }
};

}  // namespace strand
