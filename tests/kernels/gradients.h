#pragma once
// Central differences of scalars on the reference backend, whose memory is the host's.
#include <algorithm>
#include <cmath>
#include <functional>

#include "harness.h"
#include "tests/catch.h"

namespace strand::test {

/// Σ weights ⊙ values: a linear functional whose gradient with respect to `values` is `weights`.
inline double functional(const Tensor& weights, const Tensor& values) {
  const double* w = weights.as<double>();
  const double* x = values.as<double>();
  double sum = 0;
  for (int64_t i = 0; i < values.elements(); ++i) sum += w[i] * x[i];
  return sum;
}

/// Holds `gradient` against (f(x + h) − f(x − h)) / 2h in every element of x, where f reads x. With h = 1e-5 and f of
/// the size of 1 to 100, truncation (h² f''') and rounding (2⁻⁵³ f / h) are near 1e-9; asked is a relative error of
/// 1e-6, of the element or of a hundredth of the largest.
inline void check_gradient(const std::string& name, const Tensor& x, const Tensor& gradient,
                           const std::function<double()>& f) {
  INFO("gradient of " << name);
  REQUIRE(x.shape == gradient.shape);
  constexpr double h = 1e-5;
  double* values = x.as<double>();
  const Values analytic(gradient.as<double>(), gradient.as<double>() + gradient.elements());
  double largest = 0;
  for (double g : analytic) largest = std::max(largest, std::abs(g));
  double worst = 0;
  for (size_t i = 0; i < analytic.size(); ++i) {
    const double before = values[i];
    values[i] = before + h;
    const double above = f();
    values[i] = before - h;
    const double below = f();
    values[i] = before;
    const double numeric = (above - below) / (2 * h);
    const double scale = std::max({std::abs(analytic[i]), 0.01 * largest, 1e-12});
    const double error = std::abs(numeric - analytic[i]) / scale;
    worst = std::isnan(error) ? error : std::max(worst, error);
    if (!(error <= 1e-6)) UNSCOPED_INFO("element " << i << ": " << analytic[i] << ", differences say " << numeric);
  }
  CHECK(worst <= 1e-6);
}

/// A stage of the reference backend.
class ReferenceStage : public Stage {
 public:
  explicit ReferenceStage(int64_t alignment = 1) : Stage(reference_ops(), DType::f64, DType::f64, alignment) {}
  Tensor zeros(const Shape& shape) {
    const Tensor x = acc_out(shape);
    run(Zero{.x = x});
    return x;
  }
  /// A f64 scalar at zero.
  Tensor zero() { return zeros({1}); }
};

}  // namespace strand::test
