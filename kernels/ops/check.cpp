#include "kernels/ops/check.h"

#include "kernels/ops/attention.h"
#include "kernels/ops/cache.h"
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

// ---- attention.h --------------------------------------------------------------------------------------------------
namespace {
void check_layout(const OpCheck& c, const HeadLayout& l) {
  c.holds(l.sequences > 0 && l.tokens > 0 && l.heads > 0 && l.kv_heads > 0 && l.head_dim > 0, "an empty layout");
  c.holds(l.heads % l.kv_heads == 0, "heads is not a multiple of kv_heads");
  c.holds(l.rotary_dim >= 0 && l.rotary_dim <= l.head_dim && l.rotary_dim % 2 == 0, "rotary_dim is odd or too large");
}

void check_head_norm(const OpCheck& c, const HeadLayout& l, HeadNorm norm, DType acc, const Tensor& q_weight,
                     const Tensor& k_weight, const Tensor& q_rstd, const Tensor& k_rstd) {
  const int64_t t = l.sequences * l.tokens;
  if (norm == HeadNorm::none) {
    c.absent("q_weight", q_weight);
    c.absent("k_weight", k_weight);
    return;
  }
  const bool full = norm == HeadNorm::full;
  c.tensor("q_weight", q_weight, acc, {full ? l.heads * l.head_dim : l.head_dim});
  c.tensor("k_weight", k_weight, acc, {full ? l.kv_heads * l.head_dim : l.head_dim});
  c.tensor("q_rstd", q_rstd, acc, {t, full ? 1 : l.heads});
  c.tensor("k_rstd", k_rstd, acc, {t, full ? 1 : l.kv_heads});
}

void check_rotary(const OpCheck& c, const HeadLayout& l, const Tensor& rotary, DType acc) {
  if (l.rotary_dim == 0) return;
  c.rank("rotary", rotary, 2);
  c.tensor("rotary", rotary, acc, {rotary.dim(0), l.rotary_dim});
  c.holds(rotary.dim(0) >= l.tokens, "the rotary table is shorter than the sequence");
}

void check_qkv(const OpCheck& c, const HeadLayout& l, DType act, const Tensor& q, const Tensor& k, const Tensor& v) {
  c.tensor("q", q, act, {l.sequences, l.heads, l.tokens, l.head_dim});
  c.tensor("k", k, act, {l.sequences, l.kv_heads, l.tokens, l.head_dim});
  c.tensor("v", v, act, {l.sequences, l.kv_heads, l.tokens, l.head_dim});
}

Shape fused_shape(const HeadLayout& l) {
  return {l.sequences * l.tokens, (l.heads + 2 * l.kv_heads) * l.head_dim};
}
}  // namespace

void SplitHeads::check() const {
  const OpCheck c("SplitHeads");
  check_layout(c, layout);
  const DType act = c.act("qkv", qkv), acc = acc_of(act);
  c.tensor("qkv", qkv, act, fused_shape(layout));
  check_rotary(c, layout, rotary, acc);
  check_head_norm(c, layout, norm, acc, q_weight, k_weight, q_rstd, k_rstd);
  check_qkv(c, layout, act, q, k, v);
}

void SplitHeadsBackward::check() const {
  const OpCheck c("SplitHeadsBackward");
  check_layout(c, layout);
  const DType act = c.act("dqkv", dqkv), acc = acc_of(act);
  c.tensor("dqkv", dqkv, act, fused_shape(layout));
  check_rotary(c, layout, rotary, acc);
  check_head_norm(c, layout, norm, acc, q_weight, k_weight, q_rstd, k_rstd);
  check_qkv(c, layout, act, dq, dk, dv);
  if (norm == HeadNorm::none) return;
  c.tensor("qkv", qkv, act, fused_shape(layout));
  c.tensor("dq_weight", dq_weight, acc, q_weight.shape);
  c.tensor("dk_weight", dk_weight, acc, k_weight.shape);
}

void Attention::check() const {
  const OpCheck c("Attention");
  check_layout(c, layout);
  const DType act = c.act("q", q);
  check_qkv(c, layout, act, q, k, v);
  c.tensor("out", out, act, {layout.sequences * layout.tokens, layout.heads * layout.head_dim});
  c.tensor("lse", lse, acc_of(act), {layout.sequences, layout.heads, layout.tokens});
}

void AttentionBackward::check() const {
  const OpCheck c("AttentionBackward");
  check_layout(c, layout);
  const DType act = c.act("q", q), acc = acc_of(act);
  check_qkv(c, layout, act, q, k, v);
  check_qkv(c, layout, act, dq, dk, dv);
  const Shape rows{layout.sequences * layout.tokens, layout.heads * layout.head_dim};
  c.tensor("out", out, act, rows);
  c.tensor("dout", dout, act, rows);
  c.tensor("lse", lse, acc, {layout.sequences, layout.heads, layout.tokens});
  c.tensor("delta", delta, acc, {layout.sequences, layout.heads, layout.tokens});
}

// ---- cache.h ------------------------------------------------------------------------------------------------------
namespace {
void check_cache(const OpCheck& c, const HeadLayout& l, DType act, const CachePlaces& places, const Tensor& keys,
                 const Tensor& values) {
  const int64_t t = l.sequences * l.tokens;
  c.tensor("places.sequence", places.sequence, DType::i32, {t});
  c.tensor("places.position", places.position, DType::i32, {t});
  c.rank("keys", keys, 4);
  c.tensor("keys", keys, act, {keys.dim(0), l.kv_heads, keys.dim(2), l.head_dim});
  c.tensor("values", values, act, keys.shape);
}
}  // namespace

void CacheAppend::check() const {
  const OpCheck c("CacheAppend");
  check_layout(c, layout);
  const DType act = c.act("k", k);
  const Shape heads{layout.sequences, layout.kv_heads, layout.tokens, layout.head_dim};
  c.tensor("k", k, act, heads);
  c.tensor("v", v, act, heads);
  check_cache(c, layout, act, places, keys, values);
}

void CacheAttention::check() const {
  const OpCheck c("CacheAttention");
  check_layout(c, layout);
  const DType act = c.act("q", q);
  c.tensor("q", q, act, {layout.sequences, layout.heads, layout.tokens, layout.head_dim});
  check_cache(c, layout, act, places, keys, values);
  c.tensor("out", out, act, {layout.sequences * layout.tokens, layout.heads * layout.head_dim});
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
