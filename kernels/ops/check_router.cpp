#include "kernels/ops/check.h"
#include "kernels/ops/coupling.h"
#include "kernels/ops/router.h"

namespace strand {

namespace {
/// [T, E] probabilities and what selection made of them.
void check_selection(const OpCheck& c, const Tensor& probs, const Tensor& selected) {
  c.acc("probs", probs);
  c.rank("probs", probs, 2);
  c.rank("selected", selected, 2);
  c.tensor("selected", selected, DType::i32, {probs.dim(0), selected.dim(1)});
  c.holds(selected.dim(1) >= 1 && selected.dim(1) <= probs.dim(1), "top_k is not in [1, number of experts]");
}

void check_groups(const OpCheck& c, const Gating& gating, int64_t experts) {
  if (gating.groups == 1) return;
  c.holds(gating.groups > 1 && experts % gating.groups == 0 && experts / gating.groups >= 2,
          "groups do not divide the experts into two or more each");
  c.holds(gating.groups_kept >= 1 && gating.groups_kept < gating.groups, "groups_kept is not in [1, groups)");
  c.holds(gating.groups_kept * (experts / gating.groups) >= gating.top_k,
          "the kept groups have fewer than top_k experts");
}

void check_statistics(const OpCheck& c, const Tensor& probs, const Tensor& statistics) {
  c.rank("statistics", statistics, 3);
  c.tensor("statistics", statistics, probs.dtype, {2, statistics.dim(1), probs.dim(1)});
  c.holds(statistics.dim(1) >= 1 && probs.dim(0) % statistics.dim(1) == 0, "groups do not divide the tokens");
}

/// Statistics of which means are taken.
enum class Statistics : uint8_t { needed, optional };
void check_group_means(const OpCheck& c, const Tensor& probs, const Tensor& statistics, double mean_share,
                       Statistics use) {
  if (use == Statistics::optional && !statistics) return;
  check_statistics(c, probs, statistics);
  c.holds(mean_share > 0, "mean_share must be positive");
}
}  // namespace

void RouterLinear::check() const {
  const OpCheck c("RouterLinear");
  const DType acc = acc_of(c.act("x", x));
  c.rank("x", x, 2);
  c.rank("weight", weight, 2);
  c.tensor("weight", weight, acc, {weight.dim(0), x.dim(1)});
  c.tensor("logits", logits, acc, {x.dim(0), weight.dim(0)});
}

void RouterLinearBackward::check() const {
  const OpCheck c("RouterLinearBackward");
  const DType acc = acc_of(c.act("x", x));
  c.rank("x", x, 2);
  c.rank("weight", weight, 2);
  c.tensor("weight", weight, acc, {weight.dim(0), x.dim(1)});
  c.tensor("dlogits", dlogits, acc, {x.dim(0), weight.dim(0)});
  c.tensor("dx", dx, acc, x.shape);
  c.tensor("dweight", dweight, acc, weight.shape);
}

void Route::check() const {
  const OpCheck c("Route");
  const DType acc = c.acc("logits", logits);
  c.rank("logits", logits, 2);
  c.tensor("probs", probs, acc, logits.shape);
  check_selection(c, probs, selected);
  c.holds(selected.dim(1) == gating.top_k, "selected has not top_k columns");
  check_groups(c, gating, logits.dim(1));
  c.tensor("gates", gates, acc, selected.shape);
  c.optional("bias", bias, acc, {logits.dim(1)});
}

void RoutingStatistics::check() const {
  const OpCheck c("RoutingStatistics");
  check_selection(c, probs, selected);
  check_statistics(c, probs, statistics);
  c.tensor("step_counts", step_counts, probs.dtype, {probs.dim(1)});
}

void RouterTerms::check() const {
  const OpCheck c("RouterTerms");
  const DType acc = c.acc("logits", logits);
  c.rank("logits", logits, 2);
  c.tensor("probs", probs, acc, logits.shape);
  check_group_means(c, probs, statistics, mean_share, bool(lb) || bool(v) ? Statistics::needed : Statistics::optional);
  c.optional("lb", lb, DType::f64, {1});
  c.optional("z", z, DType::f64, {1});
  c.optional("v", v, DType::f64, {1});
  c.optional("entropy", entropy, DType::f64, {1});
}

void RouterBackward::check() const {
  const OpCheck c("RouterBackward");
  const DType acc = c.acc("logits", logits);
  c.rank("logits", logits, 2);
  const int64_t t = logits.dim(0);
  c.tensor("probs", probs, acc, logits.shape);
  check_selection(c, probs, selected);
  c.holds(selected.dim(1) == gating.top_k, "selected has not top_k columns");
  c.tensor("gates", gates, acc, selected.shape);
  c.tensor("dgates", dgates, acc, selected.shape);
  check_group_means(c, probs, statistics, mean_share,
                    lb_scale != 0 || v_scale != 0 ? Statistics::needed : Statistics::optional);
  c.optional("above_top_mass", above_top_mass, acc, {t});
  c.optional("below_source_mass", below_source_mass, acc, {t});
  if (below_source_mass) c.present("top_experts", top_experts);
  c.optional("top_experts", top_experts, DType::i32, selected.shape);
  c.optional("dprobs", dprobs, acc, logits.shape);
  c.tensor("dlogits", dlogits, acc, logits.shape);
}

void RouterBiasUpdate::check() const {
  const OpCheck c("RouterBiasUpdate");
  const DType acc = c.acc("bias", bias);
  c.rank("bias", bias, 1);
  c.tensor("step_counts", step_counts, acc, bias.shape);
  c.numbers(numbers);
}

void CouplingMasses::check() const {
  const OpCheck c("CouplingMasses");
  check_selection(c, probs, selected);
  c.tensor("source_mass", source_mass, probs.dtype, {probs.dim(0)});
  c.tensor("top_mass", top_mass, probs.dtype, {probs.dim(0)});
  c.tensor("top_experts", top_experts, DType::i32, selected.shape);
}

void CouplingTokenTerm::check() const {
  const OpCheck c("CouplingTokenTerm");
  const DType acc = c.acc("lower_source_mass", lower_source_mass);
  c.rank("lower_source_mass", lower_source_mass, 1);
  c.tensor("upper_top_mass", upper_top_mass, acc, lower_source_mass.shape);
  c.tensor("cp", cp, DType::f64, {1});
}

void CouplingJoint::check() const {
  const OpCheck c("CouplingJoint");
  check_selection(c, lower_probs, lower_selected);
  c.rank("upper_probs", upper_probs, 2);
  c.tensor("upper_probs", upper_probs, lower_probs.dtype, {lower_probs.dim(0), upper_probs.dim(1)});
  c.tensor("joint", joint, lower_probs.dtype, {lower_probs.dim(1), upper_probs.dim(1)});
}

void CouplingSelect::check() const {
  const OpCheck c("CouplingSelect");
  const DType acc = c.acc("joint", joint);
  c.rank("joint", joint, 2);
  c.tensor("mask", mask, acc, joint.shape);
  c.holds(top_k >= 1 && top_k <= joint.dim(1), "top_k is not in [1, number of upper experts]");
  c.tensor("cp", cp, DType::f64, {1});
}

void CouplingJointBackward::check() const {
  const OpCheck c("CouplingJointBackward");
  check_selection(c, lower_probs, lower_selected);
  c.rank("upper_probs", upper_probs, 2);
  c.tensor("upper_probs", upper_probs, lower_probs.dtype, {lower_probs.dim(0), upper_probs.dim(1)});
  c.tensor("mask", mask, lower_probs.dtype, {lower_probs.dim(1), upper_probs.dim(1)});
  c.tensor("dprobs", dprobs, lower_probs.dtype, side == Side::lower ? lower_probs.shape : upper_probs.shape);
}

}  // namespace strand
