// Cross-layer coupling between adjacent MoE layers: Hu et al., arXiv 2602.14159, Eq. 7; docs/mathematics.md, section 3.
#include <vector>

#include "kernels/reference/reference_ops.h"
#include "kernels/reference/top_k.h"
#include "kernels/reference/view.h"

namespace strand {

using namespace reference;

namespace {
/// [e ∈ S_t]: does expert e count as a source for token t?
bool is_source(CouplingSources sources, const View<int32_t, 2>& selected, int64_t t, int64_t e) {
  if (sources == CouplingSources::all) return true;
  for (int64_t k = 0; k < selected.dim(1); ++k)
    if (selected(t, k) == e) return true;
  return false;
}
}  // namespace

void ReferenceOps::run(const CouplingMasses& op) {
  const auto p = matrix(op.probs);
  const auto selected = id_matrix(op.selected), top_experts = id_matrix(op.top_experts);
  const auto source_mass = vector(op.source_mass), top_mass = vector(op.top_mass);
  const int64_t K = top_experts.dim(1);
  for (int64_t t = 0; t < p.dim(0); ++t) {
    source_mass(t) = 0;
    for (int64_t e = 0; e < p.dim(1); ++e)
      if (is_source(op.sources, selected, t, e)) source_mass(t) += p(t, e);

    const std::vector<int32_t> top = top_k(p.dim(1), K, [&](int32_t e) { return p(t, e); });
    top_mass(t) = 0;
    for (int64_t k = 0; k < K; ++k) {
      top_experts(t, k) = top[static_cast<size_t>(k)];
      top_mass(t) += p(t, top_experts(t, k));
    }
  }
}

// CP ∝ −Σ_t Σ_{e∈S_t} Σ_{ν∈top-K} p_te p_tν, whose double sum factorises.
void ReferenceOps::run(const CouplingTokenTerm& op) {
  const auto source_mass = vector(op.lower_source_mass), top_mass = vector(op.upper_top_mass);
  for (int64_t t = 0; t < source_mass.dim(0); ++t) scalar(op.cp) -= op.cp_scale * source_mass(t) * top_mass(t);
}

// P_eν = Σ_t [e ∈ S_t] p_te p_tν, still to be divided by the number of tokens
void ReferenceOps::run(const CouplingJoint& op) {
  const auto lower = matrix(op.lower_probs), upper = matrix(op.upper_probs), joint = matrix(op.joint);
  const auto selected = id_matrix(op.lower_selected);
  run(Zero{.x = op.joint});
  for (int64_t t = 0; t < lower.dim(0); ++t)
    for (int64_t e = 0; e < lower.dim(1); ++e)
      if (is_source(op.sources, selected, t, e))
        for (int64_t v = 0; v < upper.dim(1); ++v) joint(e, v) += lower(t, e) * upper(t, v);
}

// CP ∝ −Σ_e Σ_{ν ∈ top-K of row e} P_eν
void ReferenceOps::run(const CouplingSelect& op) {
  const auto joint = matrix(op.joint), mask = matrix(op.mask);
  for (int64_t e = 0; e < joint.dim(0); ++e) {
    const std::vector<int32_t> top = top_k(joint.dim(1), op.top_k, [&](int32_t v) { return joint(e, v); });
    for (int32_t v : top) scalar(op.cp) -= op.cp_scale * joint(e, v);
    for (int64_t v = 0; v < joint.dim(1); ++v) mask(e, v) = 0;  // only now: mask may be joint
    for (int32_t v : top) mask(e, v) = 1;
  }
}

void ReferenceOps::run(const CouplingJointBackward& op) {
  const auto lower = matrix(op.lower_probs), upper = matrix(op.upper_probs), mask = matrix(op.mask);
  const auto selected = id_matrix(op.lower_selected);
  const auto dprobs = matrix(op.dprobs);
  for (int64_t t = 0; t < lower.dim(0); ++t) {
    for (int64_t e = 0; e < lower.dim(1); ++e) {
      if (!is_source(op.sources, selected, t, e)) continue;
      for (int64_t v = 0; v < upper.dim(1); ++v) {
        if (op.side == CouplingJointBackward::Side::lower)
          dprobs(t, e) -= op.cp_scale * mask(e, v) * upper(t, v);
        else
          dprobs(t, v) -= op.cp_scale * mask(e, v) * lower(t, e);
      }
    }
  }
}

}  // namespace strand
