#include "kernels/ops/check.h"
#include "kernels/ops/optimizer.h"

namespace strand {

void ClipGradient::check() const {
  const OpCheck c("ClipGradient");
  c.tensor("sum_of_squares", sum_of_squares, DType::f64, {1});
  c.rank("terms", terms, 1);
  c.tensor("terms", terms, DType::f64, terms.shape);
  c.holds(max_norm >= 0, "max_norm is below 0");
  c.numbers(numbers);
}

void SumOfSquares::check() const {
  const OpCheck c("SumOfSquares");
  c.acc("x", x);
  c.tensor("sum", sum, DType::f64, {1});
}

void AdamW::check() const {
  const OpCheck c("AdamW");
  const DType acc = c.acc("weight", weight);
  c.tensor("gradient", gradient, acc, weight.shape);
  c.tensor("m", m, acc, weight.shape);
  c.tensor("v", v, acc, weight.shape);
  if (weight_act) {
    c.tensor("weight_act", weight_act, c.act("weight_act", weight_act), weight.shape);
    c.holds(acc_of(weight_act.dtype) == acc, "weight_act and weight do not belong together");
  }
  c.numbers(numbers);
}

void SumOfUpdates::check() const {
  const OpCheck c("SumOfUpdates");
  const DType acc = c.acc("weight", weight);
  c.tensor("m", m, acc, weight.shape);
  c.tensor("v", v, acc, weight.shape);
  c.numbers(numbers);
  c.tensor("squared_update", squared_update, DType::f64, {1});
  c.tensor("squared_weight", squared_weight, DType::f64, {1});
}

}  // namespace strand
