// SwiGLU and the specialization term SP on its outputs: z = silu(gate) ⊙ up; Hu et al., arXiv 2602.14159, Eq. 4.
#include <cmath>
#include <vector>

#include "kernels/host_numbers.h"
#include "kernels/reference/reference_ops.h"
#include "kernels/reference/row_map.h"
#include "kernels/reference/specialization.h"
#include "kernels/reference/view.h"

namespace strand {

using namespace reference;

namespace {
double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}
double silu(double x) {
  return x * sigmoid(x);
}
double silu_derivative(double x) {
  return sigmoid(x) * (1 + x * (1 - sigmoid(x)));
}

/// z_rf from the row's [gate | up]
double swiglu(const View<double, 2>& gate_up, int64_t r, int64_t f) {
  return silu(gate_up(r, f)) * gate_up(r, gate_up.dim(1) / 2 + f);
}
}  // namespace

void ReferenceOps::run(const Swiglu& op) {
  const auto gate_up = matrix(op.gate_up), z = matrix(op.z);
  const int64_t F = z.dim(1);
  const int64_t R = op.map ? rows_in_use(op.map) : z.dim(0);
  const auto slot_of_row = ids(op.map.slot_of_row);
  for (int64_t r = 0; r < R; ++r) {
    const bool padding = slot_of_row && slot_of_row(r) < 0;
    for (int64_t f = 0; f < F; ++f) z(r, f) = padding ? 0 : swiglu(gate_up, r, f);
  }
  if (!op.gram) return;

  const auto gram = cube(op.gram);
  const auto row = id_matrix(op.map.row_of_slot);
  for (int64_t t = 0; t < gram.dim(0); ++t) {
    for (int64_t i = 0; i < gram.dim(1); ++i) {
      for (int64_t j = 0; j < gram.dim(2); ++j) {
        gram(t, i, j) = 0;
        for (int64_t f = 0; f < F; ++f) gram(t, i, j) += z(row(t, i), f) * z(row(t, j), f);
      }
    }
  }
}

// SP ∝ Σ_t Σ_{i≠j} cos²(z_ti, z_tj) over the tokens of the sample
void ReferenceOps::run(const SpecializationTerm& op) {
  const auto gram = cube(op.gram);
  const HostSample sample(op.sample);
  for (int64_t t = 0; t < gram.dim(0); ++t) {
    if (!sample.contains(t)) continue;
    for (int64_t i = 0; i < gram.dim(1); ++i)
      for (int64_t j = 0; j < gram.dim(1); ++j)
        if (i != j) scalar(op.sp) += op.sp_scale * std::pow(cosine(gram, t, i, j), 2);
  }
}

namespace {
/// ∂gate = ∂z · up · silu'(gate),  ∂up = ∂z · silu(gate)
void swiglu_backward(const View<double, 2>& gate_up, const View<double, 2>& dgate_up, int64_t r, int64_t f, double dz) {
  const int64_t F = gate_up.dim(1) / 2;
  const double gate = gate_up(r, f), up = gate_up(r, F + f);  // read before: dgate_up may be gate_up
  dgate_up(r, f) = dz * up * silu_derivative(gate);
  dgate_up(r, F + f) = dz * silu(gate);
}

/// One token of SwigluBackward with a map: its K rows together, since SP ties them.
void token_backward(const SwigluBackward& op, int64_t t) {
  const auto gate_up = matrix(op.gate_up), dz = matrix(op.dz), weighted_z = matrix(op.weighted_z);
  const auto dgate_up = matrix(op.dgate_up), gates = matrix(op.gates), dgates = matrix(op.dgates);
  const auto gram = cube(op.gram);
  const auto dz_pairs = matrix(op.dz_pairs);
  const auto row = id_matrix(op.map.row_of_slot), pair = id_matrix(op.pair_of_slot);
  const auto F = static_cast<size_t>(dz.dim(1)), K = static_cast<size_t>(row.dim(1));
  const bool with_sp = op.sp_scale != 0 && HostSample(op.sample).contains(t);

  std::vector<std::vector<double>> z(K, std::vector<double>(F));
  for (size_t k = 0; k < K; ++k)
    for (size_t f = 0; f < F; ++f) z[k][f] = swiglu(gate_up, row(t, k), static_cast<int64_t>(f));

  for (size_t k = 0; k < K; ++k) {
    const int64_t r = row(t, k);
    const double gate = gates ? gates(t, k) : 1;
    double dgate = 0;
    for (size_t f = 0; f < F; ++f) {
      const double dz_weighted = dz(r, f);  // dz': before the routing weight
      double dz_total = gate * dz_weighted;
      if (with_sp) dz_total += 4 * op.sp_scale * sp_gradient(gram, z, t, k, f);
      if (dz_pairs && pair(t, k) >= 0) dz_total += dz_pairs(pair(t, k), f);
      dgate += dz_weighted * z[k][f];
      weighted_z(r, f) = gate * z[k][f];
      swiglu_backward(gate_up, dgate_up, r, static_cast<int64_t>(f), dz_total);
    }
    if (dgates) dgates(t, k) = dgate;
  }
}
}  // namespace

void ReferenceOps::run(const SwigluBackward& op) {
  const auto gate_up = matrix(op.gate_up), dz = matrix(op.dz), weighted_z = matrix(op.weighted_z);
  const auto dgate_up = matrix(op.dgate_up);
  const int64_t F = dz.dim(1);
  if (!op.map) {
    for (int64_t r = 0; r < dz.dim(0); ++r) {
      for (int64_t f = 0; f < F; ++f) {
        const double gradient = dz(r, f);
        weighted_z(r, f) = swiglu(gate_up, r, f);
        swiglu_backward(gate_up, dgate_up, r, f, gradient);
      }
    }
    return;
  }
  for (int64_t t = 0; t < op.map.row_of_slot.dim(0); ++t) token_backward(op, t);

  const auto slot_of_row = ids(op.map.slot_of_row);
  for (int64_t r = 0; r < rows_in_use(op.map); ++r) {
    if (slot_of_row(r) >= 0) continue;
    for (int64_t f = 0; f < F; ++f) weighted_z(r, f) = dgate_up(r, f) = dgate_up(r, F + f) = 0;
  }
}

}  // namespace strand
