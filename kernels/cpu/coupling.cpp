// Cross-layer coupling: the two masses of the token form, and the joint matrix of the batch form.
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/expert_scores.h"
#include "kernels/cpu/token_blocks.h"

namespace strand {
namespace {

using simd::vfloat;

float sum_of_row(const float* row, int64_t n) {
  vfloat total{};
  simd::for_lanes(n, [&](int64_t i, auto lanes) { total += simd::load(row + i, lanes); });
  return simd::sum(total);
}

float sum_of_indexed(const float* row, const int32_t* index, int64_t n) {
  float total = 0;
  for (int64_t i = 0; i < n; ++i) total += row[index[i]];
  return total;
}

using block_sizes::joint_rows;
using block_sizes::joint_tokens;

/// panel[t, i] = p of lower expert first + i where it is a source, else 0
void source_panel(const CouplingJoint& op, int64_t begin, int64_t end, int64_t first, int64_t rows, float* panel) {
  const int64_t experts = op.lower_probs.dim(1), top_k = op.lower_selected.dim(1);
  const int32_t* selected = op.lower_selected.as<int32_t>();
  std::fill_n(panel, joint_tokens * joint_rows, 0.0f);
  for (int64_t t = begin; t < end; ++t) {
    const float* probs = op.lower_probs.as<float>() + t * experts + first;
    float* out = panel + (t - begin) * joint_rows;
    if (op.sources == CouplingSources::all) {
      std::copy_n(probs, rows, out);
      continue;
    }
    for (int64_t k = 0; k < top_k; ++k) {
      const int64_t i = selected[t * top_k + k] - first;
      if (i >= 0 && i < rows) out[i] = probs[i];
    }
  }
}

/// joint[first.., column..] += panelᵀ upper, one vector of columns
template <typename Lanes>
void add_tile(const CouplingJoint& op, const float* panel, int64_t begin, int64_t end, int64_t first, int64_t rows,
              int64_t column, Lanes lanes) {
  const int64_t columns = op.upper_probs.dim(1);
  const float* upper = op.upper_probs.as<float>() + column;
  vfloat sum[joint_rows] = {};
  for (int64_t t = begin; t < end; ++t) {
    const vfloat p = simd::load(upper + t * columns, lanes);
    for (int64_t i = 0; i < joint_rows; ++i) sum[i] += panel[(t - begin) * joint_rows + i] * p;
  }
  for (int64_t i = 0; i < rows; ++i) {
    float* out = op.joint.as<float>() + (first + i) * columns + column;
    simd::store(out, simd::load(out, lanes) + sum[i], lanes);
  }
}

/// The mask as a list of its ones, row by row.
struct MaskList {
  MaskList(Workspace& memory, const Tensor& mask)
      : begin(memory.take<int32_t>(mask.dim(0) + 1)), column(memory.take<int32_t>(mask.elements())) {}
  void fill(const Tensor& mask) const {
    const int64_t rows = mask.dim(0), columns = mask.dim(1);
    const float* dense = mask.as<float>();
    int32_t count = 0;
    for (int64_t e = 0; e < rows; ++e) {
      begin[e] = count;
      for (int64_t i = 0; i < columns; ++i) {
        if (dense[e * columns + i] != 0) column[count++] = static_cast<int32_t>(i);
      }
    }
    begin[rows] = count;
  }
  int32_t* begin;   ///< [E + 1]
  int32_t* column;  ///< the ones of row e are column[begin[e]] .. column[begin[e + 1] − 1]
};

void lower_gradient(const MaskList& mask, int32_t e, const float* upper_probs, float scale, float* dprobs) {
  float mass = 0;
  for (int32_t i = mask.begin[e]; i < mask.begin[e + 1]; ++i) mass += upper_probs[mask.column[i]];
  dprobs[e] -= scale * mass;
}

void upper_gradient(const MaskList& mask, int32_t e, const float* lower_probs, float* mass) {
  for (int32_t i = mask.begin[e]; i < mask.begin[e + 1]; ++i) mass[mask.column[i]] += lower_probs[e];
}

template <typename Body>
void for_sources(CouplingSources sources, int64_t experts, const int32_t* selected, int64_t top_k, const Body& body) {
  if (sources == CouplingSources::all) {
    for (int32_t e = 0; e < experts; ++e) body(e);
  } else {
    for (int64_t k = 0; k < top_k; ++k) body(selected[k]);
  }
}

struct TermBuffers : PartialSums {
  TermBuffers(Workspace& memory, const CouplingTokenTerm& op) : PartialSums(memory, op.lower_source_mass.elements()) {}
};

struct SelectBuffers {
  SelectBuffers(Workspace& memory, const CouplingSelect& op) : best(memory.take<int32_t>(op.top_k)) {}
  int32_t* best;
};

struct JointBuffers {
  JointBuffers(Workspace& memory, const CouplingJointBackward& op)
      : mask(memory, op.mask), mass(memory, op.upper_probs.dim(1)) {}
  MaskList mask;
  ThreadBuffers mass;  ///< [upper E]
};

}  // namespace

void CpuOps::run(const CouplingMasses& op) {
  const int64_t experts = op.probs.dim(1), top_k = op.top_experts.dim(1), active = op.selected.dim(1);
  const float* all_probs = op.probs.as<float>();
  const int32_t* selected = op.selected.as<int32_t>();
  int32_t* top_experts = op.top_experts.as<int32_t>();
  float* source_mass = op.source_mass.as<float>();
  float* top_mass = op.top_mass.as<float>();
  for_blocks(op.probs.dim(0), token_block, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t t = begin; t < end; ++t) {
      const float* probs = all_probs + t * experts;
      top_k_of_row(probs, experts, top_k, top_experts + t * top_k);
      top_mass[t] = sum_of_indexed(probs, top_experts + t * top_k, top_k);
      source_mass[t] = op.sources == CouplingSources::all ? sum_of_row(probs, experts)
                                                          : sum_of_indexed(probs, selected + t * active, active);
    }
  });
}

void CpuOps::run(const CouplingTokenTerm& op) {
  const float* lower = op.lower_source_mass.as<float>();
  const float* upper = op.upper_top_mass.as<float>();
  const double total =
      sum_over_blocks(op.lower_source_mass.elements(), buffers<TermBuffers>(op), [&](int64_t begin, int64_t end) {
        double sum = 0;
        for (int64_t t = begin; t < end; ++t) sum += static_cast<double>(lower[t]) * upper[t];
        return sum;
      });
  *op.cp.as<double>() -= op.cp_scale * total;
}

void CpuOps::run(const CouplingJoint& op) {
  const int64_t tokens = op.lower_probs.dim(0), experts = op.lower_probs.dim(1), columns = op.upper_probs.dim(1);
  // Threads share out the rows of the matrix, so each of its entries is summed by one thread in token order.
  for_blocks(experts, joint_rows, [&](int64_t first, int64_t last, int64_t) {
    const int64_t rows = last - first;
    std::fill_n(op.joint.as<float>() + first * columns, rows * columns, 0.0f);
    float panel[joint_tokens * joint_rows];
    for (int64_t begin = 0; begin < tokens; begin += joint_tokens) {
      const int64_t end = std::min(tokens, begin + joint_tokens);
      source_panel(op, begin, end, first, rows, panel);
      simd::for_lanes(columns,
                      [&](int64_t column, auto lanes) { add_tile(op, panel, begin, end, first, rows, column, lanes); });
    }
  });
}

void CpuOps::run(const CouplingSelect& op) {
  const int64_t experts = op.joint.dim(0), columns = op.joint.dim(1);
  int32_t* const best = buffers<SelectBuffers>(op).best;
  double total = 0;
  for (int64_t e = 0; e < experts; ++e) {
    const float* joint = op.joint.as<float>() + e * columns;
    float* mask = op.mask.as<float>() + e * columns;
    top_k_of_row(joint, columns, op.top_k, best);
    for (int64_t k = 0; k < op.top_k; ++k) total += joint[best[k]];
    std::fill_n(mask, columns, 0.0f);
    for (int64_t k = 0; k < op.top_k; ++k) mask[best[k]] = 1;
  }
  *op.cp.as<double>() -= op.cp_scale * total;
}

void CpuOps::run(const CouplingJointBackward& op) {
  const int64_t experts = op.lower_probs.dim(1), columns = op.upper_probs.dim(1), top_k = op.lower_selected.dim(1);
  const auto memory = buffers<JointBuffers>(op);
  const MaskList& mask = memory.mask;
  mask.fill(op.mask);
  const float scale = static_cast<float>(op.cp_scale);
  for_blocks(op.lower_probs.dim(0), token_block, [&](int64_t begin, int64_t end, int64_t) {
    float* mass = memory.mass.mine();
    for (int64_t t = begin; t < end; ++t) {
      const float* lower = op.lower_probs.as<float>() + t * experts;
      const float* upper = op.upper_probs.as<float>() + t * columns;
      const int32_t* selected = op.lower_selected.as<int32_t>() + t * top_k;
      if (op.side == CouplingJointBackward::Side::lower) {
        float* dprobs = op.dprobs.as<float>() + t * experts;
        for_sources(op.sources, experts, selected, top_k,
                    [&](int32_t e) { lower_gradient(mask, e, upper, scale, dprobs); });
        continue;
      }
      float* dprobs = op.dprobs.as<float>() + t * columns;
      std::fill_n(mass, columns, 0.0f);
      for_sources(op.sources, experts, selected, top_k, [&](int32_t e) { upper_gradient(mask, e, lower, mass); });
      simd::for_lanes(columns, [&](int64_t i, auto lanes) {
        simd::store(dprobs + i, simd::load(dprobs + i, lanes) - scale * simd::load(mass + i, lanes), lanes);
      });
    }
  });
}

size_t CpuWorkspaces::bytes(const CouplingTokenTerm& op) const {
  return workspace_bytes<TermBuffers>(op);
}
size_t CpuWorkspaces::bytes(const CouplingSelect& op) const {
  return workspace_bytes<SelectBuffers>(op);
}
size_t CpuWorkspaces::bytes(const CouplingJointBackward& op) const {
  return workspace_bytes<JointBuffers>(op);
}

}  // namespace strand
