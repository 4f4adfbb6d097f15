#pragma once
// All factors of the objective in one place: those of values and of gradients, and that of sampling.
//
// An operation adds `scale · Σ f` to the value of a term, with the sum over what one rank sees in one micro-step, and
// `scale · ∂f` to gradients. It knows no weights and no numbers of tokens: both of its factors are made here.
//
// The target (docs/mathematics.md, section 3): every term is a mean over the tokens of the optimizer step, all
// micro-steps and ranks together, so neither its value nor its gradient depends on how the step is cut. Hence
//
//   z, o, entropy  (1/T) Σ_t f_t                    T = tokens of the step                  → share 1/T
//   sp            (1/T) Σ_{t in the sample} f_t / fraction                                  → share 1/(T · fraction)
//   cp, token     −(1/T) Σ_t f_t                                                            → share 1/T
//   cp, batch     −(1/M) Σ_micro-steps Σ_{(e,ν) in the mask} P_eν,  M = micro-steps of the step
//                 P = (1/m) Σ_t p_te p_tν,          m = tokens of the micro-step, all ranks → share 1/(m · M)
//   lb, v         (1/n) Σ_groups f(c, P)            n = groups of the step, P = Σp / g, g = tokens of a group
//                 by sequence: a group is a sequence of S tokens,  g = S, n = T/S
//                 by micro-step: a group is a micro-step on all ranks,  g = m, n = M
//   lb            f = E/(K g) Σ_e c_e P_e           = E/(K g²) Σ_e c_e Σp_e                 → share E/(K g² n)
//   v             f = −(1/(g E)) Σ_t Σ_e (p_te − P_e)²                                      → share 1/(g E n)
//
// The factor of a gradient is weight · share. Ranks sum their parts of each term and of each gradient, with no divisor.
// Where all ranks compute the same number (lb by micro-step and cp's batch form: what they are computed from is
// all-reduced first), each adds 1/ranks of the value. That holds for experts as for dense weights: the exchange brings
// an expert the rows, and so the gradients, of all tokens of its expert group, and the reduction over replicas adds
// those of the other groups. Together these are all tokens, once, whatever the layout is.
#include <array>

#include "model/objective.h"

namespace strand {

/// What the host knows of an optimizer step before the step begins.
struct StepShape {
  int64_t tokens = 0;       ///< T, all micro-steps and ranks
  int64_t micro_steps = 1;  ///< M
  int64_t ranks = 1;        ///< N
};

/// The sizes of the micro-step in progress.
struct MicroShape {
  int64_t sequences = 0;  ///< of this rank
  int64_t tokens = 0;     ///< S, in each sequence
  int64_t all_ranks = 0;  ///< m, tokens of all sequences of all ranks
};

/// CE's factor: 1 / valid targets of the step, all micro-steps and ranks; 0 when there is none. It depends on the data,
/// so it reaches the device as StepNumber::target_share.
inline double target_share(int64_t valid_targets) {
  return valid_targets > 0 ? 1.0 / static_cast<double>(valid_targets) : 0.0;
}

struct TermScale {
  double value = 0;
  double gradient = 0;  ///< 0 in an evaluation
};

class LossScale {
 public:
  LossScale(const Objective& objective, const MoeConfig& moe, const StepShape& step, const MicroShape& micro) {
    const LossConfig& losses = objective.losses;
    const auto tokens = static_cast<double>(step.tokens);
    const double per_token = 1.0 / tokens, per_rank = 1.0 / static_cast<double>(step.ranks);
    const double per_micro_step = 1.0 / static_cast<double>(step.micro_steps);
    const auto experts = static_cast<double>(moe.num_experts), active = static_cast<double>(moe.top_k);
    const auto set = [&](Term term, double share, double copies = 1.0) {
      scales_[static_cast<size_t>(term)] = {share * copies, objective.weight(term) * share};
    };

    set(Term::z, per_token);
    set(Term::o, per_token);
    set(Term::entropy, per_token);
    set(Term::sp, per_token / losses.sp_token_fraction);

    const bool by_sequence = losses.lb_scope == StatisticsScope::sequence;
    const auto group = static_cast<double>(by_sequence ? micro.tokens : micro.all_ranks);
    const double per_group = by_sequence ? group / tokens : per_micro_step;
    groups = by_sequence ? micro.sequences : 1;
    mean_share = 1.0 / group;
    set(Term::lb, per_group * experts / (active * group * group), by_sequence ? 1.0 : per_rank);
    set(Term::v, per_group / (group * experts));

    if (losses.cp_paths == CouplingPaths::token)
      set(Term::cp, per_token);
    else
      set(Term::cp, per_micro_step / static_cast<double>(micro.all_ranks), per_rank);
  }

  const TermScale& operator[](Term term) const { return scales_[static_cast<size_t>(term)]; }
  void leave_out_gradients() {
    for (TermScale& scale : scales_) scale.gradient = 0;
  }

  int64_t groups = 1;     ///< of lb and v, in one rank's micro-batch
  double mean_share = 0;  ///< 1/g: from a group's Σp to its mean

 private:
  std::array<TermScale, term_count> scales_{};
};

}  // namespace strand
