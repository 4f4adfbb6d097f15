// AdamW (Loshchilov & Hutter 2019) and the sum behind the gradient norm. docs/mathematics.md, section 4.
#include <cmath>

#include "kernels/host_numbers.h"
#include "kernels/reference/reference_ops.h"
#include "kernels/reference/view.h"

namespace strand {

using namespace reference;

void ReferenceOps::run(const SumOfSquares& op) {
  const auto x = flat(op.x);
  for (int64_t i = 0; i < x.dim(0); ++i) scalar(op.sum) += x(i) * x(i);
}

void ReferenceOps::run(const ClipGradient& op) {
  clip_gradient(op);
}

void ReferenceOps::run(const AdamW& op) {
  if (step_number(op.numbers, StepNumber::apply) == 0) return;
  const double updates = step_number(op.numbers, StepNumber::updates);
  const double lr = step_number(op.numbers, StepNumber::learning_rate);
  const double gradient_scale = step_number(op.numbers, StepNumber::gradient_scale);
  const auto w = flat(op.weight), gradient = flat(op.gradient), m = flat(op.m), v = flat(op.v);
  // m and v start at 0, so after n updates they miss a factor 1 − βⁿ of what they average.
  const double correction_m = 1 - std::pow(op.beta1, updates);
  const double correction_v = 1 - std::pow(op.beta2, updates);
  for (int64_t i = 0; i < w.dim(0); ++i) {
    const double g = gradient_scale * gradient(i);
    m(i) = op.beta1 * m(i) + (1 - op.beta1) * g;
    v(i) = op.beta2 * v(i) + (1 - op.beta2) * g * g;
    const double m_hat = m(i) / correction_m;
    const double v_hat = v(i) / correction_v;
    w(i) -= lr * (m_hat / (std::sqrt(v_hat) + op.eps) + op.decay * w(i));
    if (op.weight_act) flat(op.weight_act)(i) = w(i);
  }
}

void ReferenceOps::run(const SumOfUpdates& op) {
  const double updates = step_number(op.numbers, StepNumber::updates);
  const double lr = step_number(op.numbers, StepNumber::learning_rate);
  const bool applied = step_number(op.numbers, StepNumber::apply) != 0;
  const auto w = flat(op.weight), m = flat(op.m), v = flat(op.v);
  for (int64_t i = 0; i < w.dim(0); ++i) {
    scalar(op.squared_weight) += w(i) * w(i);
    if (!applied) continue;
    const double m_hat = m(i) / (1 - std::pow(op.beta1, updates));
    const double v_hat = v(i) / (1 - std::pow(op.beta2, updates));
    const double update = lr * (m_hat / (std::sqrt(v_hat) + op.eps) + op.decay * w(i)) / (1 - lr * op.decay);
    scalar(op.squared_update) += update * update;
  }
}

}  // namespace strand
