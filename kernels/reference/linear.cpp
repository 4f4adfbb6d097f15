// Matrix products: y = x Wᵀ with W [out, in], and the two products of its backward.
#include "kernels/reference/reference_ops.h"
#include "kernels/reference/view.h"

namespace strand {

using namespace reference;

// y_to = Σ_i x_ti W_oi
void ReferenceOps::run(const Linear& op) {
  const auto x = matrix(op.x), w = matrix(op.weight), y = matrix(op.y);
  for (int64_t t = 0; t < y.dim(0); ++t) {
    for (int64_t o = 0; o < y.dim(1); ++o) {
      double sum = 0;
      for (int64_t i = 0; i < x.dim(1); ++i) sum += x(t, i) * w(o, i);
      y(t, o) = sum;
    }
  }
}

// ∂x_ti = Σ_o ∂y_to W_oi
void ReferenceOps::run(const LinearBackwardInput& op) {
  const auto dy = matrix(op.dy), w = matrix(op.weight), dx = matrix(op.dx);
  for (int64_t t = 0; t < dx.dim(0); ++t) {
    for (int64_t i = 0; i < dx.dim(1); ++i) {
      double sum = op.write == Write::accumulate ? dx(t, i) : 0;
      for (int64_t o = 0; o < dy.dim(1); ++o) sum += dy(t, o) * w(o, i);
      dx(t, i) = sum;
    }
  }
}

// ∂W_oi = Σ_t ∂y_to x_ti
void ReferenceOps::run(const LinearBackwardWeight& op) {
  const auto dy = matrix(op.dy), x = matrix(op.x), dw = matrix(op.dweight);
  for (int64_t t = 0; t < x.dim(0); ++t)
    for (int64_t o = 0; o < dw.dim(0); ++o)
      for (int64_t i = 0; i < dw.dim(1); ++i) dw(o, i) += dy(t, o) * x(t, i);
}

// ---- The same for every expert e and the rows r of its block ------------------------------------------------------

// y_ro = Σ_i x_ri W_eoi
void ReferenceOps::run(const GroupedLinear& op) {
  const auto x = matrix(op.x), y = matrix(op.y);
  const auto w = cube(op.weight);
  const auto offsets = ids(op.offsets);
  for (int64_t e = 0; e < w.dim(0); ++e) {
    for (int64_t r = offsets(e); r < offsets(e + 1); ++r) {
      for (int64_t o = 0; o < w.dim(1); ++o) {
        double sum = 0;
        for (int64_t i = 0; i < w.dim(2); ++i) sum += x(r, i) * w(e, o, i);
        y(r, o) = sum;
      }
    }
  }
}

// ∂x_ri = Σ_o ∂y_ro W_eoi
void ReferenceOps::run(const GroupedLinearBackwardInput& op) {
  const auto dy = matrix(op.dy), dx = matrix(op.dx);
  const auto w = cube(op.weight);
  const auto offsets = ids(op.offsets);
  for (int64_t e = 0; e < w.dim(0); ++e) {
    for (int64_t r = offsets(e); r < offsets(e + 1); ++r) {
      for (int64_t i = 0; i < w.dim(2); ++i) {
        double sum = 0;
        for (int64_t o = 0; o < w.dim(1); ++o) sum += dy(r, o) * w(e, o, i);
        dx(r, i) = sum;
      }
    }
  }
}

// ∂W_eoi = Σ_{r of e} ∂y_ro x_ri
void ReferenceOps::run(const GroupedLinearBackwardWeight& op) {
  const auto dy = matrix(op.dy), x = matrix(op.x);
  const auto dw = cube(op.dweight);
  const auto offsets = ids(op.offsets);
  for (int64_t e = 0; e < dw.dim(0); ++e)
    for (int64_t r = offsets(e); r < offsets(e + 1); ++r)
      for (int64_t o = 0; o < dw.dim(1); ++o)
        for (int64_t i = 0; i < dw.dim(2); ++i) dw(e, o, i) += dy(r, o) * x(r, i);
}

}  // namespace strand
