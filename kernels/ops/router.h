#pragma once
// The router and its losses: scores, selection, statistics, the terms LB, Z, V and entropy, and one backward that
// gathers the gradient of every router loss and of the routing weights into dlogits. All acc.
//
// A field `x_scale` is the factor of the term X, ready to multiply: of its value in RouterTerms, of its gradient in
// RouterBackward. Weights, numbers of tokens and whatever else makes a mean of a sum are in it (model/loss_scale.h).
#include "core/model_kinds.h"
#include "kernels/ops/step_numbers.h"

namespace strand {

/// logits = x Wᵀ in acc; x is widened when act is bf16.
struct RouterLinear {
  Tensor x;       ///< [T, D] act
  Tensor weight;  ///< [E, D] acc
  Tensor logits;  ///< [T, E] acc
  void check() const;
};

/// dx += dlogits W;  dW += dlogitsᵀ x
struct RouterLinearBackward {
  Tensor dlogits;  ///< [T, E] acc
  Tensor x;        ///< [T, D] act
  Tensor weight;   ///< [E, D] acc
  Tensor dx;       ///< [T, D] acc, accumulated
  Tensor dweight;  ///< [E, D] acc, accumulated
  void check() const;
};

/// How logits become routing weights. s = softmax(q) or sigmoid(q);  p = s, or s / Σ s for sigmoid.
struct Gating {
  RouterScore score = RouterScore::softmax;
  bool renormalize = false;   ///< g_e = s_e / Σ over the selected s
  double routed_scale = 1.0;  ///< times this
  int64_t top_k = 0;          ///< K
  /// Group-limited selection: of n groups of E/n consecutive experts, k are kept. 1: no groups.
  int64_t groups = 1;
  int64_t groups_kept = 1;
};

/// Selection: the K experts with the largest s + bias, in that order (ties: the lower index). The bias never enters g.
/// With groups, only experts of the kept groups are chosen: those with the largest sum of their two largest s + bias
/// (ties: the lower index; arXiv 2412.19437, section 2.1.2). The choice of groups has no gradient.
struct Route {
  Gating gating;
  Tensor logits;    ///< [T, E] acc
  Tensor bias;      ///< [E] acc, or none
  Tensor probs;     ///< [T, E] acc: p
  Tensor selected;  ///< [T, K] i32
  Tensor gates;     ///< [T, K] acc: g of the selected
  void check() const;
};

/// Per group of consecutive tokens (a sequence, or the whole micro-batch): how many tokens selected each expert, and
/// the sum of its probability. Across ranks, statistics are summed by an all-reduce afterwards.
struct RoutingStatistics {
  Tensor probs;        ///< [T, E] acc
  Tensor selected;     ///< [T, K] i32
  Tensor statistics;   ///< [2, groups, E] acc: counts, then sums of p; groups divides T
  Tensor step_counts;  ///< [E] acc, accumulated: selections of the optimizer step, for the aux-free bias and the log
  void check() const;
};

/// Adds this micro-batch's part of the terms (docs/mathematics.md, section 3) to f64 scalars:
///   lb += lb_scale Σ_groups Σ_e c_e Σp_e        z += z_scale Σ_t logsumexp(q_t)²
///   v  −= v_scale Σ_t Σ_e (p_te − P_e)²         with P = mean_share · Σp of the token's group
///   entropy −= entropy_scale Σ_t Σ_e p_te ln p_te, where a p of 0 adds 0
/// A scalar that is none is a term that is not measured, for which nothing is computed.
struct RouterTerms {
  Tensor logits;          ///< [T, E] acc
  Tensor probs;           ///< [T, E] acc
  Tensor statistics;      ///< [2, groups, E] acc; needed with lb and v
  double mean_share = 0;  ///< 1 / tokens behind the statistics of one group
  double lb_scale = 0, z_scale = 0, v_scale = 0, entropy_scale = 0;
  Tensor lb, z, v, entropy;  ///< [1] f64 each, accumulated, or none
  void check() const;
};

/// dlogits from everything that depends on the logits of one layer:
///   ∂p_te = lb_scale c_e − 2 v_scale (p_te − P_e) − entropy_scale (ln p_te + 1)
///         − cp_scale [e ∈ sources_t] above_top_mass_t − cp_scale [e ∈ top_t] below_source_mass_t + dprobs_te
///   ∂s from ∂p, and from dgates through renormalization and scale;  ∂q from ∂s, plus 2 z_scale lse_t softmax(q_t)_e.
/// (Neither score lets a constant in ∂p_t reach ∂q_t, so the 1 beside ln p_te may be left out; and a p of 0 has no
/// gradient.) A scale of 0 or an absent tensor leaves its term out.
struct RouterBackward {
  Gating gating;
  Tensor logits;          ///< [T, E] acc
  Tensor probs;           ///< [T, E] acc
  Tensor selected;        ///< [T, K] i32
  Tensor gates;           ///< [T, K] acc
  Tensor dgates;          ///< [T, K] acc
  Tensor statistics;      ///< [2, groups, E] acc; needed when lb_scale or v_scale is not 0
  double mean_share = 0;  ///< 1 / tokens behind the statistics of one group
  double lb_scale = 0, z_scale = 0, v_scale = 0, entropy_scale = 0;
  double cp_scale = 0;                                ///< of CP's token form
  CouplingSources cp_sources = CouplingSources::all;  ///< of this layer
  Tensor above_top_mass;     ///< [T] acc or none: top mass of the MoE layer above (this layer is its source)
  Tensor below_source_mass;  ///< [T] acc or none: source mass of the MoE layer below (this layer is its target)
  Tensor top_experts;        ///< [T, K] i32, this layer's top-K by p; needed with below_source_mass
  Tensor dprobs;             ///< [T, E] acc or none: further gradient of p (batch form of CP)
  Tensor dlogits;            ///< [T, E] acc
  void check() const;
};

/// bias_e += rate · sign(mean(counts) − counts_e), sign(0) = 0 (aux-loss-free balancing, Wang et al. 2024). Nothing
/// changes when numbers[apply] is 0.
struct RouterBiasUpdate {
  Tensor step_counts;  ///< [E] acc
  double rate = 0;
  Tensor bias;     ///< [E] acc
  Tensor numbers;  ///< [step_number_count] f64: apply
  void check() const;
};

}  // namespace strand
