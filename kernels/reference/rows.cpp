// From tokens to expert rows and back: sort, dispatch, combine, and the orthogonality term O on the combined rows.
// O: Guo et al., arXiv 2505.22323, Eq. 6.
#include <cmath>
#include <vector>

#include "kernels/reference/reference_ops.h"
#include "kernels/reference/row_map.h"
#include "kernels/reference/view.h"

namespace strand {

using namespace reference;

namespace {
constexpr double o_epsilon = 1e-9;

}  // namespace

void ReferenceOps::run(const SortSlots& op) {
  const auto selected = id_matrix(op.selected), row_of_slot = id_matrix(op.map.row_of_slot);
  const auto slot_of_row = ids(op.map.slot_of_row), offsets = ids(op.map.offsets);
  const int64_t E = offsets.dim(0) - 1, K = selected.dim(1);
  int32_t row = 0;
  for (int64_t e = 0; e < E; ++e) {
    offsets(e) = row;
    for (int64_t t = 0; t < selected.dim(0); ++t) {
      for (int64_t k = 0; k < K; ++k) {
        if (selected(t, k) != e) continue;
        slot_of_row(row) = static_cast<int32_t>(t * K + k);
        row_of_slot(t, k) = row++;
      }
    }
    while (row % op.alignment != 0) slot_of_row(row++) = -1;
  }
  offsets(E) = row;
}

void ReferenceOps::run(const DispatchRows& op) {
  const auto x = matrix(op.x), rows = matrix(op.rows);
  const auto slot_of_row = ids(op.map.slot_of_row);
  const int64_t K = op.map.row_of_slot.dim(1);
  for (int64_t r = 0; r < rows_in_use(op.map); ++r)
    for (int64_t d = 0; d < x.dim(1); ++d) rows(r, d) = slot_of_row(r) < 0 ? 0 : x(slot_of_row(r) / K, d);
}

// out_t = Σ_k g_tk y_tk,  gram_tij = ⟨y_ti, y_tj⟩
void ReferenceOps::run(const CombineRows& op) {
  const auto y = matrix(op.rows), gates = matrix(op.gates), out = matrix(op.out);
  const auto gram = cube(op.gram);
  const auto row = id_matrix(op.map.row_of_slot);
  const int64_t D = y.dim(1), K = row.dim(1);
  for (int64_t t = 0; t < out.dim(0); ++t) {
    for (int64_t d = 0; d < D; ++d) {
      double sum = op.write == Write::accumulate ? out(t, d) : 0;
      for (int64_t k = 0; k < K; ++k) sum += (gates ? gates(t, k) : 1) * y(row(t, k), d);
      out(t, d) = sum;
    }
    if (!gram) continue;
    for (int64_t i = 0; i < K; ++i) {
      for (int64_t j = 0; j < K; ++j) {
        gram(t, i, j) = 0;
        for (int64_t d = 0; d < D; ++d) gram(t, i, j) += y(row(t, i), d) * y(row(t, j), d);
      }
    }
  }
}

// O ∝ Σ_t Σ_{i≠j} ‖ ⟨y_i,y_j⟩/(⟨y_j,y_j⟩+ε) y_j ‖² = Σ_t Σ_{i≠j} G_ij² G_jj / (G_jj+ε)²
void ReferenceOps::run(const OrthogonalityTerm& op) {
  const auto gram = cube(op.gram);
  for (int64_t t = 0; t < gram.dim(0); ++t)
    for (int64_t i = 0; i < gram.dim(1); ++i)
      for (int64_t j = 0; j < gram.dim(1); ++j)
        if (i != j)
          scalar(op.o) +=
              op.o_scale * std::pow(gram(t, i, j), 2) * gram(t, j, j) / std::pow(gram(t, j, j) + o_epsilon, 2);
}

namespace {
/// ∂O_t/∂y_ti = Σ_j coefficient_ij y_tj. With f(n) = n/(n+ε)², O_t = Σ_{i≠j} G_ij² f(G_jj), G symmetric:
///   j ≠ i:  2 G_ij (f(G_jj) + f(G_ii))   from the pairs (i, j) and (j, i);
///   j = i:  2 f'(G_ii) Σ_{l≠i} G_li²      since ∂G_ii/∂y_i = 2 y_i;  f'(n) = (ε − n)/(n+ε)³.
double o_coefficient(const View<double, 3>& gram, int64_t t, int64_t i, int64_t j) {
  const auto f = [](double n) { return n / std::pow(n + o_epsilon, 2); };
  const auto f_prime = [](double n) { return (o_epsilon - n) / std::pow(n + o_epsilon, 3); };
  if (i != j) return 2 * gram(t, i, j) * (f(gram(t, j, j)) + f(gram(t, i, i)));
  double squares = 0;
  for (int64_t l = 0; l < gram.dim(1); ++l)
    if (l != i) squares += std::pow(gram(t, l, i), 2);
  return 2 * f_prime(gram(t, i, i)) * squares;
}
}  // namespace

// ∂g_ti = ⟨∂out_t, y_ti⟩,  ∂y_ti = g_ti ∂out_t + o_scale ∂O_t/∂y_ti
void ReferenceOps::run(const CombineBackward& op) {
  const auto dout = matrix(op.dout), y = matrix(op.y), gates = matrix(op.gates);
  const auto dy = matrix(op.dy), dgates = matrix(op.dgates);
  const auto gram = cube(op.gram);
  const auto row = id_matrix(op.map.row_of_slot);
  const auto slot_of_row = ids(op.map.slot_of_row);
  for (int64_t r = 0; r < rows_in_use(op.map); ++r)
    for (int64_t d = 0; d < dy.dim(1); ++d)
      if (slot_of_row(r) < 0) dy(r, d) = 0;

  for (int64_t t = 0; t < dout.dim(0); ++t) {
    for (int64_t i = 0; i < row.dim(1); ++i) {
      dgates(t, i) = 0;
      for (int64_t d = 0; d < dout.dim(1); ++d) {
        dgates(t, i) += dout(t, d) * y(row(t, i), d);
        double gradient = gates(t, i) * dout(t, d);
        for (int64_t j = 0; j < row.dim(1); ++j)
          gradient += op.o_scale * o_coefficient(gram, t, i, j) * y(row(t, j), d);
        dy(row(t, i), d) = gradient;
      }
    }
  }
}

}  // namespace strand
