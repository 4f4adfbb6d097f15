#include "kernels/ops/check.h"

#include "kernels/ops/head.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/norm.h"
#include "kernels/ops/optimizer.h"
#include "kernels/ops/vocabulary.h"

namespace strand {

namespace {
/// An output that may be act or its accumulation type.
void act_or_acc(const OpCheck& check, const char* field, const Tensor& t, DType act, const Shape& shape) {
  check.present(field, t);
  check.tensor(field, t, t.dtype == act ? act : acc_of(act), shape);
}
}  // namespace

// ---- linear.h -----------------------------------------------------------------------------------------------------
void Linear::check() const {
  const OpCheck c("Linear");
  const DType act = c.act("x", x);
  c.rank("x", x, 2);
  c.rank("weight", weight, 2);
  c.tensor("weight", weight, act, {weight.dim(0), x.dim(1)});
  act_or_acc(c, "y", y, act, {x.dim(0), weight.dim(0)});
}

void LinearBackwardInput::check() const {
  const OpCheck c("LinearBackwardInput");
  const DType act = c.act("dy", dy);
  c.rank("dy", dy, 2);
  c.rank("weight", weight, 2);
  c.tensor("weight", weight, act, {dy.dim(1), weight.dim(1)});
  act_or_acc(c, "dx", dx, act, {dy.dim(0), weight.dim(1)});
}

void LinearBackwardWeight::check() const {
  const OpCheck c("LinearBackwardWeight");
  const DType act = c.act("dy", dy);
  c.rank("dy", dy, 2);
  c.rank("x", x, 2);
  c.tensor("x", x, act, {dy.dim(0), x.dim(1)});
  c.tensor("dweight", dweight, acc_of(act), {dy.dim(1), x.dim(1)});
}

void GroupedLinear::check() const {
  const OpCheck c("GroupedLinear");
  const DType act = c.act("x", x);
  c.rank("x", x, 2);
  c.rank("weight", weight, 3);
  c.tensor("weight", weight, act, {weight.dim(0), weight.dim(1), x.dim(1)});
  c.tensor("offsets", offsets, DType::i32, {weight.dim(0) + 1});
  c.tensor("y", y, act, {x.dim(0), weight.dim(1)});
}

void GroupedLinearBackwardInput::check() const {
  const OpCheck c("GroupedLinearBackwardInput");
  const DType act = c.act("dy", dy);
  c.rank("dy", dy, 2);
  c.rank("weight", weight, 3);
  c.tensor("weight", weight, act, {weight.dim(0), dy.dim(1), weight.dim(2)});
  c.tensor("offsets", offsets, DType::i32, {weight.dim(0) + 1});
  c.tensor("dx", dx, act, {dy.dim(0), weight.dim(2)});
}

void GroupedLinearBackwardWeight::check() const {
  const OpCheck c("GroupedLinearBackwardWeight");
  const DType act = c.act("dy", dy);
  c.rank("dy", dy, 2);
  c.rank("x", x, 2);
  c.rank("dweight", dweight, 3);
  c.tensor("x", x, act, {dy.dim(0), x.dim(1)});
  c.tensor("dweight", dweight, acc_of(act), {dweight.dim(0), dy.dim(1), x.dim(1)});
  c.tensor("offsets", offsets, DType::i32, {dweight.dim(0) + 1});
}

// ---- norm.h -------------------------------------------------------------------------------------------------------
void AddRmsNorm::check() const {
  const OpCheck c("AddRmsNorm");
  const DType acc = c.acc("residual", residual);
  c.rank("residual", residual, 2);
  const int64_t t = residual.dim(0), d = residual.dim(1);
  c.optional("branch", branch, acc, {t, d});
  c.holds(bool(branch) == bool(sum), "sum is written exactly when there is a branch");
  c.optional("sum", sum, acc, {t, d});
  c.tensor("weight", weight, acc, {d});
  c.tensor("y", y, c.act("y", y), {t, d});
  c.holds(acc_of(y.dtype) == acc, "y and residual do not belong together");
  c.tensor("rstd", rstd, acc, {t});
  c.holds(eps >= 0, "eps is negative");
}

void RmsNormBackward::check() const {
  const OpCheck c("RmsNormBackward");
  const DType acc = c.acc("dy", dy);
  c.rank("dy", dy, 2);
  const int64_t t = dy.dim(0), d = dy.dim(1);
  c.tensor("x", x, acc, {t, d});
  c.tensor("weight", weight, acc, {d});
  c.tensor("rstd", rstd, acc, {t});
  c.tensor("dresidual", dresidual, acc, {t, d});
  if (dresidual_act) {
    c.tensor("dresidual_act", dresidual_act, c.act("dresidual_act", dresidual_act), {t, d});
    c.holds(acc_of(dresidual_act.dtype) == acc, "dresidual_act and dresidual do not belong together");
  }
  c.tensor("dweight", dweight, acc, {d});
}

// ---- head.h, vocabulary.h, optimizer.h ----------------------------------------------------------------------------
void CrossEntropy::check() const {
  const OpCheck c("CrossEntropy");
  const DType acc = c.acc("logits", logits);
  c.rank("logits", logits, 2);
  c.tensor("targets", targets, DType::i32, {logits.dim(0)});
  c.tensor("ce", ce, DType::f64, {1});
  c.numbers(numbers);
  if (!dlogits) return;
  c.tensor("dlogits", dlogits, c.act("dlogits", dlogits), logits.shape);
  c.holds(acc_of(dlogits.dtype) == acc, "dlogits and logits do not belong together");
}

void Embedding::check() const {
  const OpCheck c("Embedding");
  const DType act = c.act("table", table);
  c.rank("table", table, 2);
  c.rank("tokens", tokens, 1);
  c.tensor("tokens", tokens, DType::i32, {tokens.dim(0)});
  c.tensor("x", x, acc_of(act), {tokens.dim(0), table.dim(1)});
}

void EmbeddingBackward::check() const {
  const OpCheck c("EmbeddingBackward");
  const DType acc = c.acc("dtable", dtable);
  c.rank("dtable", dtable, 2);
  c.rank("tokens", tokens, 1);
  c.tensor("tokens", tokens, DType::i32, {tokens.dim(0)});
  c.tensor("dx", dx, acc, {tokens.dim(0), dtable.dim(1)});
}

void Zero::check() const {
  OpCheck("Zero").present("x", x);
}

void Copy::check() const {
  const OpCheck c("Copy");
  c.present("from", from);
  c.present("to", to);
  c.holds(from.dtype == to.dtype && from.elements() == to.elements(), "from and to differ in type or size");
}

void Cast::check() const {
  const OpCheck c("Cast");
  c.act("from", from);
  c.act("to", to);
  c.holds(from.elements() == to.elements(), "from and to differ in size");
}

}  // namespace strand
