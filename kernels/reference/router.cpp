// The router: scores, selection, the terms LB, Z, V and entropy, and the gradient of all that depends on the logits.
// docs/mathematics.md, section 3; LB: Fedus et al. 2021 in Megatron-Core's form; Z: Zoph et al. 2022; V: Guo et al.,
// arXiv 2505.22323, Eq. 7; aux-loss-free bias: Wang et al. 2024.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "kernels/host_numbers.h"
#include "kernels/reference/reference_ops.h"
#include "kernels/reference/top_k.h"
#include "kernels/reference/view.h"

namespace strand {

using namespace reference;

// q_te = Σ_d x_td W_ed
void ReferenceOps::run(const RouterLinear& op) {
  run(Linear{.x = op.x, .weight = op.weight, .y = op.logits});
}

// ∂x += ∂q W,  ∂W += ∂qᵀ x
void ReferenceOps::run(const RouterLinearBackward& op) {
  run(LinearBackwardInput{.dy = op.dlogits, .weight = op.weight, .dx = op.dx, .write = Write::accumulate});
  run(LinearBackwardWeight{.dy = op.dlogits, .x = op.x, .dweight = op.dweight});
}

namespace {
using Logits = View<double, 2>;

double logsumexp(const Logits& q, int64_t t) {
  double largest = q(t, 0), sum = 0;
  for (int64_t e = 0; e < q.dim(1); ++e) largest = std::max(largest, q(t, e));
  for (int64_t e = 0; e < q.dim(1); ++e) sum += std::exp(q(t, e) - largest);
  return largest + std::log(sum);
}

/// s_t = softmax(q_t) over all experts, or sigmoid(q_t).
std::vector<double> scores(const Logits& q, int64_t t, RouterScore score) {
  std::vector<double> s(static_cast<size_t>(q.dim(1)));
  const double lse = logsumexp(q, t);
  for (int64_t e = 0; e < q.dim(1); ++e)
    s[static_cast<size_t>(e)] = score == RouterScore::softmax ? std::exp(q(t, e) - lse) : 1 / (1 + std::exp(-q(t, e)));
  return s;
}

/// Makes the s + b of experts whose group is not kept less than every other.
void drop_groups(const Gating& gating, std::vector<double>& with_bias) {
  if (gating.groups == 1) return;
  const auto experts = static_cast<int64_t>(with_bias.size()) / gating.groups;
  std::vector<double> group_scores;
  for (int64_t group = 0; group < gating.groups; ++group) {
    std::vector<double> members(with_bias.begin() + group * experts, with_bias.begin() + (group + 1) * experts);
    std::partial_sort(members.begin(), members.begin() + 2, members.end(), std::greater<>());
    group_scores.push_back(members[0] + members[1]);
  }
  const std::vector<int32_t> kept =
      top_k(gating.groups, gating.groups_kept, [&](int32_t group) { return group_scores[static_cast<size_t>(group)]; });
  for (int64_t e = 0; e < experts * gating.groups; ++e)
    if (std::find(kept.begin(), kept.end(), e / experts) == kept.end())
      with_bias[static_cast<size_t>(e)] = -std::numeric_limits<double>::infinity();
}

double sum_of(const std::vector<double>& x) {
  double sum = 0;
  for (double value : x) sum += value;
  return sum;
}
}  // namespace

void ReferenceOps::run(const Route& op) {
  const auto q = matrix(op.logits), p = matrix(op.probs), gates = matrix(op.gates);
  const auto selected = id_matrix(op.selected);
  const auto bias = vector(op.bias);
  const int64_t E = q.dim(1), K = op.gating.top_k;
  for (int64_t t = 0; t < q.dim(0); ++t) {
    const std::vector<double> s = scores(q, t, op.gating.score);
    const double sum = op.gating.score == RouterScore::sigmoid ? sum_of(s) : 1;
    for (int64_t e = 0; e < E; ++e) p(t, e) = s[static_cast<size_t>(e)] / sum;

    std::vector<double> with_bias = s;
    for (int64_t e = 0; bias && e < E; ++e) with_bias[static_cast<size_t>(e)] += bias(e);
    drop_groups(op.gating, with_bias);
    const std::vector<int32_t> chosen = top_k(E, K, [&](int32_t e) { return with_bias[static_cast<size_t>(e)]; });
    double selected_sum = 0;
    for (int32_t e : chosen) selected_sum += s[static_cast<size_t>(e)];
    for (int64_t k = 0; k < K; ++k) {
      const int32_t e = chosen[static_cast<size_t>(k)];
      selected(t, k) = e;
      gates(t, k) = op.gating.routed_scale * s[static_cast<size_t>(e)] / (op.gating.renormalize ? selected_sum : 1);
    }
  }
}

void ReferenceOps::run(const RoutingStatistics& op) {
  const auto p = matrix(op.probs);
  const auto selected = id_matrix(op.selected);
  const auto statistics = cube(op.statistics);  // [counts | sums of p, group, expert]
  const auto step_counts = vector(op.step_counts);
  const int64_t tokens_of_group = p.dim(0) / statistics.dim(1);
  run(Zero{.x = op.statistics});
  for (int64_t t = 0; t < p.dim(0); ++t) {
    const int64_t group = t / tokens_of_group;
    for (int64_t e = 0; e < p.dim(1); ++e) statistics(1, group, e) += p(t, e);
    for (int64_t k = 0; k < selected.dim(1); ++k) {
      statistics(0, group, selected(t, k)) += 1;
      step_counts(selected(t, k)) += 1;
    }
  }
}

namespace {
/// P_e of the group of token t.
double mean_prob(const View<double, 3>& statistics, double mean_share, int64_t tokens, int64_t t, int64_t e) {
  const int64_t tokens_of_group = tokens / statistics.dim(1);
  return mean_share * statistics(1, t / tokens_of_group, e);
}
}  // namespace

void ReferenceOps::run(const RouterTerms& op) {
  const auto q = matrix(op.logits), p = matrix(op.probs);
  const auto statistics = cube(op.statistics);  // [counts | sums of p, group, expert], of all ranks
  const int64_t T = p.dim(0), E = p.dim(1);

  // LB ∝ Σ_groups Σ_e c_e P_e
  if (op.lb)
    for (int64_t group = 0; group < statistics.dim(1); ++group)
      for (int64_t e = 0; e < E; ++e) scalar(op.lb) += op.lb_scale * statistics(0, group, e) * statistics(1, group, e);

  // Z ∝ Σ_t lse_t²
  if (op.z)
    for (int64_t t = 0; t < T; ++t) scalar(op.z) += op.z_scale * std::pow(logsumexp(q, t), 2);

  // V ∝ −Σ_t Σ_e (p_te − P_e)²
  if (op.v)
    for (int64_t t = 0; t < T; ++t)
      for (int64_t e = 0; e < E; ++e)
        scalar(op.v) -= op.v_scale * std::pow(p(t, e) - mean_prob(statistics, op.mean_share, T, t, e), 2);

  // ENTROPY ∝ −Σ_t Σ_e p_te ln p_te
  if (op.entropy)
    for (int64_t t = 0; t < T; ++t)
      for (int64_t e = 0; e < E; ++e)
        if (p(t, e) > 0) scalar(op.entropy) -= op.entropy_scale * p(t, e) * std::log(p(t, e));
}

namespace {
/// ∂loss/∂p_t: LB, V, entropy, both roles in CP's token form, and what the caller adds.
std::vector<double> prob_gradient(const RouterBackward& op, int64_t t) {
  const auto p = matrix(op.probs), dprobs = matrix(op.dprobs);
  const auto statistics = cube(op.statistics);
  const auto selected = id_matrix(op.selected), top_experts = id_matrix(op.top_experts);
  const auto above_top_mass = vector(op.above_top_mass), below_source_mass = vector(op.below_source_mass);

  std::vector<double> dp(static_cast<size_t>(p.dim(1)), 0.0);
  for (int64_t e = 0; e < p.dim(1); ++e) {
    double& gradient = dp[static_cast<size_t>(e)];
    if (op.lb_scale != 0) gradient += op.lb_scale * statistics(0, t / (p.dim(0) / statistics.dim(1)), e);
    if (op.v_scale != 0) gradient -= 2 * op.v_scale * (p(t, e) - mean_prob(statistics, op.mean_share, p.dim(0), t, e));
    if (op.entropy_scale != 0 && p(t, e) > 0) gradient -= op.entropy_scale * (std::log(p(t, e)) + 1);
    if (dprobs) gradient += dprobs(t, e);
    // CP_t = −source_mass(this) · top_mass(above)
    if (above_top_mass && op.cp_sources == CouplingSources::all) gradient -= op.cp_scale * above_top_mass(t);
  }
  if (above_top_mass && op.cp_sources == CouplingSources::activated)
    for (int64_t k = 0; k < selected.dim(1); ++k)
      dp[static_cast<size_t>(selected(t, k))] -= op.cp_scale * above_top_mass(t);
  // CP_t = −source_mass(below) · top_mass(this)
  if (below_source_mass)
    for (int64_t k = 0; k < top_experts.dim(1); ++k)
      dp[static_cast<size_t>(top_experts(t, k))] -= op.cp_scale * below_source_mass(t);
  return dp;
}

/// ∂loss/∂s of the selected experts through their gates g = scale · s, or scale · s/Σ_A s.
void add_gate_gradient(const RouterBackward& op, int64_t t, const std::vector<double>& s, std::vector<double>& ds) {
  const auto selected = id_matrix(op.selected);
  const auto dgates = matrix(op.dgates);
  const double scale = op.gating.routed_scale;
  double sum = 0, weighted = 0;  // Σ_A s,  Σ_A s ∂g
  for (int64_t k = 0; k < selected.dim(1); ++k) {
    sum += s[static_cast<size_t>(selected(t, k))];
    weighted += s[static_cast<size_t>(selected(t, k))] * dgates(t, k);
  }
  for (int64_t k = 0; k < selected.dim(1); ++k) {
    double& gradient = ds[static_cast<size_t>(selected(t, k))];
    if (op.gating.renormalize)
      gradient += scale / sum * (dgates(t, k) - weighted / sum);
    else
      gradient += scale * dgates(t, k);
  }
}
}  // namespace

void ReferenceOps::run(const RouterBackward& op) {
  const auto q = matrix(op.logits), p = matrix(op.probs), dq = matrix(op.dlogits);
  const auto E = static_cast<size_t>(q.dim(1));
  for (int64_t t = 0; t < q.dim(0); ++t) {
    const std::vector<double> s = scores(q, t, op.gating.score);
    std::vector<double> ds = prob_gradient(op, t);  // softmax: p = s
    if (op.gating.score == RouterScore::sigmoid) {  // p = s/Σs:  ∂s_e = (∂p_e − Σ_j p_j ∂p_j) / Σs
      const double sum = sum_of(s);
      double mean = 0;
      for (size_t e = 0; e < E; ++e) mean += p(t, e) * ds[e];
      for (size_t e = 0; e < E; ++e) ds[e] = (ds[e] - mean) / sum;
    }
    add_gate_gradient(op, t, s, ds);

    double mean = 0;
    for (size_t e = 0; e < E; ++e) mean += s[e] * ds[e];
    const double lse = logsumexp(q, t);
    for (size_t e = 0; e < E; ++e) {
      const double through_score = op.gating.score == RouterScore::softmax ? s[e] * (ds[e] - mean)  // softmax backward
                                                                           : ds[e] * s[e] * (1 - s[e]);
      dq(t, e) = through_score + op.z_scale * 2 * lse * std::exp(q(t, e) - lse);
    }
  }
}

// b_e += u · sign(mean(c) − c_e)
void ReferenceOps::run(const RouterBiasUpdate& op) {
  if (step_number(op.numbers, StepNumber::apply) == 0) return;
  const auto counts = vector(op.step_counts), bias = vector(op.bias);
  double mean = 0;
  for (int64_t e = 0; e < bias.dim(0); ++e) mean += counts(e);
  mean /= static_cast<double>(bias.dim(0));
  for (int64_t e = 0; e < bias.dim(0); ++e) {
    if (counts(e) < mean) bias(e) += op.rate;
    if (counts(e) > mean) bias(e) -= op.rate;
  }
}

}  // namespace strand
