#include "model/routing.h"

#include "model/dispatcher.h"
#include "model/forward_observer.h"

namespace strand {

Gating gating(const MoeConfig& moe) {
  return {moe.score, moe.renormalize, moe.routed_scale, moe.top_k, moe.groups, moe.groups_kept};
}

Routing Routing::allocate_without_terms(Context& c, int64_t t) {
  const int64_t e = c.moe.num_experts, k = c.moe.top_k;
  const DType acc = c.types.acc;
  Routing r;
  r.logits = c.step.allocate("router.logits", acc, {t, e});
  r.probs = c.step.allocate("router.probs", acc, {t, e});
  r.selected = c.step.allocate("router.selected", DType::i32, {t, k});
  r.gates = c.step.allocate("router.gates", acc, {t, k});
  c.dispatcher.allocate_maps(c, r);
  return r;
}

Routing Routing::allocate(Context& c, const Batch& batch, const LossContext& loss) {
  const int64_t t = batch.rows(), e = c.moe.num_experts, k = c.moe.top_k;
  const DType acc = c.types.acc;
  Routing r = allocate_without_terms(c, t);
  r.statistics = c.step.allocate("router.statistics", acc, {2, loss.scale.groups, e});
  if (!loss.needs(TermInput::neighbours)) return r;
  if (loss.objective.losses.cp_paths == CouplingPaths::token) {
    r.source_mass = c.step.allocate("coupling.source_mass", acc, {t});
    r.top_mass = c.step.allocate("coupling.top_mass", acc, {t});
    r.top_experts = c.step.allocate("coupling.top_experts", DType::i32, {t, k});
  } else {
    r.joint_mask = c.step.allocate("coupling.joint_mask", acc, {e, e});
  }
  return r;
}

namespace {
/// Computes the router's logits and probabilities, and which experts each token chooses with which weight.
void choose_experts(Context& c, const LayerTensors& w, const Tensor& bias, const Tensor& x, const Routing& r) {
  c.ops(RouterLinear{.x = x, .weight = w.router, .logits = r.logits});
  c.ops(Route{.gating = gating(c.moe),
              .logits = r.logits,
              .bias = bias,
              .probs = r.probs,
              .selected = r.selected,
              .gates = r.gates});
}
}  // namespace

void route_inference(Context& c, const LayerTensors& w, const Tensor& bias, const Tensor& x, const Routing& r) {
  choose_experts(c, w, bias, x, r);
  c.dispatcher.sort(c, {}, r);
}

void route_forward(Context& c, int64_t layer, const LayerTensors& w, const Tensor& bias, const Tensor& x,
                   const Routing& r, const LossContext& loss, const Tensor& step_counts) {
  const LossConfig& losses = loss.objective.losses;
  choose_experts(c, w, bias, x, r);
  if (loss.observer != nullptr) loss.observer->chosen(layer, x, r);
  // Counts and sums of probabilities, for the terms that look at them.
  c.ops(RoutingStatistics{
      .probs = r.probs, .selected = r.selected, .statistics = r.statistics, .step_counts = step_counts});
  const bool of_all_ranks = losses.lb_scope == StatisticsScope::microbatch;
  if (of_all_ranks && loss.needs(TermInput::statistics))
    c.grid.world().all_reduce_sum(Traffic::statistics, r.statistics);
  c.ops(RouterTerms{.logits = r.logits,
                    .probs = r.probs,
                    .statistics = r.statistics,
                    .mean_share = loss.scale.mean_share,
                    .lb_scale = loss.scale[Term::lb].value,
                    .z_scale = loss.scale[Term::z].value,
                    .v_scale = loss.scale[Term::v].value,
                    .entropy_scale = loss.scale[Term::entropy].value,
                    .lb = loss.value(Term::lb),
                    .z = loss.value(Term::z),
                    .v = loss.value(Term::v),
                    .entropy = loss.value(Term::entropy)});
  c.dispatcher.sort(c, loss.sample, r);
  if (r.top_mass) {
    c.ops(CouplingMasses{.sources = losses.cp_sources,
                         .probs = r.probs,
                         .selected = r.selected,
                         .source_mass = r.source_mass,
                         .top_mass = r.top_mass,
                         .top_experts = r.top_experts});
  }
}

void coupling_forward(Context& c, const Routing& lower, const Routing& upper, const LossContext& loss) {
  const LossConfig& losses = loss.objective.losses;
  if (!loss.measures(Term::cp)) return;
  if (losses.cp_paths == CouplingPaths::token) {
    c.ops(CouplingTokenTerm{.lower_source_mass = lower.source_mass,
                            .upper_top_mass = upper.top_mass,
                            .cp_scale = loss.scale[Term::cp].value,
                            .cp = loss.value(Term::cp)});
    return;
  }
  c.ops(CouplingJoint{.sources = losses.cp_sources,
                      .lower_probs = lower.probs,
                      .lower_selected = lower.selected,
                      .upper_probs = upper.probs,
                      .joint = lower.joint_mask});
  c.grid.world().all_reduce_sum(Traffic::statistics, lower.joint_mask);
  c.ops(CouplingSelect{.joint = lower.joint_mask,
                       .top_k = upper.selected.dim(1),
                       .cp_scale = loss.scale[Term::cp].value,
                       .mask = lower.joint_mask,
                       .cp = loss.value(Term::cp)});
}

namespace {
/// The gradient of p [T, E] from CP's batch form with the MoE layers below and above. None when there is no such
/// gradient.
Tensor coupling_batch_backward(Context& c, const Routing& r, const Routing* below, const Routing* above,
                               const LossContext& loss) {
  const LossConfig& losses = loss.objective.losses;
  if (losses.cp_paths != CouplingPaths::batch || !loss.has_gradient(Term::cp) || (!below && !above)) return {};
  const Tensor dprobs = c.scratch.allocate("dprobs", c.types.acc, r.probs.shape);
  c.ops(Zero{dprobs});
  const auto pair = [&](const Routing& lower, const Routing& upper, CouplingJointBackward::Side side) {
    c.ops(CouplingJointBackward{.side = side,
                                .sources = losses.cp_sources,
                                .lower_probs = lower.probs,
                                .lower_selected = lower.selected,
                                .upper_probs = upper.probs,
                                .mask = lower.joint_mask,
                                .cp_scale = loss.scale[Term::cp].gradient,
                                .dprobs = dprobs});
  };
  if (above) pair(r, *above, CouplingJointBackward::Side::lower);
  if (below) pair(*below, r, CouplingJointBackward::Side::upper);
  return dprobs;
}
}  // namespace

void route_backward(Context& c, const LayerTensors& w, const LayerTensors& dw, const Tensor& x, const Routing& r,
                    const Routing* below, const Routing* above, const LossContext& loss, const Tensor& dgates,
                    const Tensor& dx) {
  const Arena::Scope scope(c.scratch);
  const LossConfig& losses = loss.objective.losses;
  const bool token_coupling = losses.cp_paths == CouplingPaths::token && loss.has_gradient(Term::cp);
  const Tensor dlogits = c.scratch.allocate("dlogits", c.types.acc, r.logits.shape);
  c.ops(RouterBackward{.gating = gating(c.moe),
                       .logits = r.logits,
                       .probs = r.probs,
                       .selected = r.selected,
                       .gates = r.gates,
                       .dgates = dgates,
                       .statistics = r.statistics,
                       .mean_share = loss.scale.mean_share,
                       .lb_scale = loss.scale[Term::lb].gradient,
                       .z_scale = loss.scale[Term::z].gradient,
                       .v_scale = loss.scale[Term::v].gradient,
                       .entropy_scale = loss.scale[Term::entropy].gradient,
                       .cp_scale = loss.scale[Term::cp].gradient,
                       .cp_sources = losses.cp_sources,
                       .above_top_mass = token_coupling && above ? above->top_mass : Tensor{},
                       .below_source_mass = token_coupling && below ? below->source_mass : Tensor{},
                       .top_experts = r.top_experts,
                       .dprobs = coupling_batch_backward(c, r, below, above, loss),
                       .dlogits = dlogits});
  c.ops(RouterLinearBackward{.dlogits = dlogits, .x = x, .weight = w.router, .dx = dx, .dweight = dw.router});
}

}  // namespace strand
