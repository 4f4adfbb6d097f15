#pragma once
// Cross-layer coupling (CP), arXiv 2602.14159 Eq. 7, between a MoE layer ("lower") and the next one ("upper").
//
// Token form: for one token the K upper experts of largest p_e p_ν are the same for every e, so the term factorises
// into −(source mass of the lower layer) · (top-K mass of the upper layer). Two numbers a token and layer are all it
// needs. Batch form: the joint matrix P_eν = mean_t p_te p_tν [E, E'], of which each row keeps its K largest entries.
//
// `cp_scale` is ready to multiply, as in ops/router.h.
#include "core/model_kinds.h"
#include "core/tensor.h"

namespace strand {

/// top_experts_t = the K experts with the largest p (no bias; ties: the lower index);
/// top_mass_t = Σ of their p;  source_mass_t = Σ of p over all experts, or over the selected ones.
struct CouplingMasses {
  CouplingSources sources = CouplingSources::all;
  Tensor probs;        ///< [T, E] acc
  Tensor selected;     ///< [T, K] i32
  Tensor source_mass;  ///< [T] acc
  Tensor top_mass;     ///< [T] acc
  Tensor top_experts;  ///< [T, K] i32, by descending p
  void check() const;
};

/// cp −= cp_scale Σ_t source_mass_t · top_mass_t
struct CouplingTokenTerm {
  Tensor lower_source_mass;  ///< [T] acc
  Tensor upper_top_mass;     ///< [T] acc
  double cp_scale = 0;
  Tensor cp;  ///< [1] f64, accumulated
  void check() const;
};

/// joint_eν = Σ_t p_te p_tν, with p_te counted only where e is selected when sources are the activated ones.
struct CouplingJoint {
  CouplingSources sources = CouplingSources::all;
  Tensor lower_probs;     ///< [T, E] acc
  Tensor lower_selected;  ///< [T, K] i32
  Tensor upper_probs;     ///< [T, E'] acc
  Tensor joint;           ///< [E, E'] acc, overwritten
  void check() const;
};

/// mask_eν = 1 for the K largest entries of row e (ties: the lower index), else 0;  cp −= cp_scale Σ mask · joint.
/// joint and mask may be the same memory.
struct CouplingSelect {
  Tensor joint;  ///< [E, E'] acc, summed over ranks
  int64_t top_k = 0;
  double cp_scale = 0;  ///< of the value
  Tensor mask;          ///< [E, E'] acc
  Tensor cp;            ///< [1] f64, accumulated
  void check() const;
};

/// The gradient of one pair of layers with respect to one of its two factors:
///   lower: dprobs_te −= cp_scale [e ∈ sources_t] Σ_ν mask_eν p_tν      upper: dprobs_tν −= cp_scale Σ_e [e ∈
///   sources_t] p_te mask_eν
struct CouplingJointBackward {
  enum class Side : uint8_t { lower, upper };
  Side side = Side::lower;
  CouplingSources sources = CouplingSources::all;
  Tensor lower_probs;     ///< [T, E] acc
  Tensor lower_selected;  ///< [T, K] i32
  Tensor upper_probs;     ///< [T, E'] acc
  Tensor mask;            ///< [E, E'] acc
  double cp_scale = 0;    ///< of the gradient
  Tensor dprobs;          ///< [T, E] or [T, E'] acc by side, accumulated
  void check() const;
};

}  // namespace strand
