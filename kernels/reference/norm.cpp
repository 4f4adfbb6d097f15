// RMSNorm: y = x · rstd · w, rstd = 1/√(mean(x²) + ε).
#include <cmath>

#include "kernels/reference/reference_ops.h"
#include "kernels/reference/view.h"

namespace strand {

using namespace reference;

void ReferenceOps::run(const AddRmsNorm& op) {
  const auto residual = matrix(op.residual), branch = matrix(op.branch), sum = matrix(op.sum), y = matrix(op.y);
  const auto w = vector(op.weight), rstd = vector(op.rstd);
  const int64_t D = y.dim(1);
  for (int64_t t = 0; t < y.dim(0); ++t) {
    if (branch)
      for (int64_t d = 0; d < D; ++d) sum(t, d) = residual(t, d) + branch(t, d);
    const auto& x = branch ? sum : residual;

    double mean_square = 0;
    for (int64_t d = 0; d < D; ++d) mean_square += x(t, d) * x(t, d) / static_cast<double>(D);
    rstd(t) = 1 / std::sqrt(mean_square + op.eps);
    for (int64_t d = 0; d < D; ++d) y(t, d) = x(t, d) * rstd(t) * w(d);
  }
}

// With x̂ = x·rstd and a = ∂y·w:  ∂x = rstd (a − x̂ mean(a x̂)),  ∂w = Σ_t ∂y x̂
void ReferenceOps::run(const RmsNormBackward& op) {
  const auto dy = matrix(op.dy), x = matrix(op.x), dresidual = matrix(op.dresidual), copy = matrix(op.dresidual_act);
  const auto w = vector(op.weight), rstd = vector(op.rstd), dw = vector(op.dweight);
  const int64_t D = x.dim(1);
  for (int64_t t = 0; t < x.dim(0); ++t) {
    const auto x_hat = [&](int64_t d) { return x(t, d) * rstd(t); };
    const auto a = [&](int64_t d) { return dy(t, d) * w(d); };

    double mean = 0;
    for (int64_t d = 0; d < D; ++d) mean += a(d) * x_hat(d) / static_cast<double>(D);
    for (int64_t d = 0; d < D; ++d) {
      const double dx = rstd(t) * (a(d) - x_hat(d) * mean);
      dw(d) += dy(t, d) * x_hat(d);
      dresidual(t, d) = dx + (op.write == Write::accumulate ? dresidual(t, d) : 0);
      if (copy) copy(t, d) = dresidual(t, d);
    }
  }
}

}  // namespace strand
