#include "kernels/ops/attention.h"
#include "kernels/ops/cache.h"
#include "kernels/ops/check.h"
#include "kernels/ops/latent.h"

namespace strand {

// ---- attention.h --------------------------------------------------------------------------------------------------
namespace {
void check_layout(const OpCheck& c, const HeadLayout& l) {
  c.holds(l.sequences > 0 && l.tokens > 0 && l.heads > 0 && l.kv_heads > 0 && l.head_dim > 0, "an empty layout");
  c.holds(l.heads % l.kv_heads == 0, "heads is not a multiple of kv_heads");
  c.holds(l.rotary_dim >= 0 && l.rotary_dim <= l.head_dim && l.rotary_dim % 2 == 0, "rotary_dim is odd or too large");
  c.holds(l.value_dim >= 0, "value_dim is negative");
  c.holds(l.score_factor > 0, "score_factor is not above 0");
}

void check_head_norm(const OpCheck& c, const HeadLayout& l, QkNorm norm, DType acc, const Tensor& q_weight,
                     const Tensor& k_weight, const Tensor& q_rstd, const Tensor& k_rstd) {
  const int64_t t = l.sequences * l.tokens;
  if (norm == QkNorm::none) {
    c.absent("q_weight", q_weight);
    c.absent("k_weight", k_weight);
    return;
  }
  const bool full = norm == QkNorm::full;
  c.tensor("q_weight", q_weight, acc, {full ? l.heads * l.head_dim : l.head_dim});
  c.tensor("k_weight", k_weight, acc, {full ? l.kv_heads * l.head_dim : l.head_dim});
  c.tensor("q_rstd", q_rstd, acc, {t, full ? 1 : l.heads});
  c.tensor("k_rstd", k_rstd, acc, {t, full ? 1 : l.kv_heads});
}

void check_rotary(const OpCheck& c, int64_t rotary_dim, int64_t tokens, const Tensor& rotary, DType acc) {
  if (rotary_dim == 0) return;
  c.rank("rotary", rotary, 2);
  c.tensor("rotary", rotary, acc, {rotary.dim(0), rotary_dim});
  c.holds(rotary.dim(0) >= tokens, "the rotary table is shorter than the sequence");
}

/// Names of the fields that hold the heads, and of the matrix from which they are split.
struct HeadFields {
  const char *q, *k, *v, *fused;
};
constexpr HeadFields of_heads = {"q", "k", "v", "qkv"}, of_gradients = {"dq", "dk", "dv", "dqkv"};

void check_qkv(const OpCheck& c, const HeadLayout& l, DType act, const HeadFields& names, const Tensor& q,
               const Tensor& k, const Tensor& v) {
  c.tensor(names.q, q, act, {l.sequences, l.heads, l.tokens, l.head_dim});
  c.tensor(names.k, k, act, {l.sequences, l.kv_heads, l.tokens, l.head_dim});
  c.tensor(names.v, v, act, {l.sequences, l.kv_heads, l.tokens, l.value_width()});
}

Shape fused_shape(const HeadLayout& l) {
  return {l.sequences * l.tokens, (l.heads + 2 * l.kv_heads) * l.head_dim};
}

/// What SplitHeads and SplitHeadsBackward have in common: heads, the matrix from which they are split, norm, rotation.
template <typename Op>
void check_split(const OpCheck& c, const Op& op, const HeadFields& names, const Tensor& fused, const Tensor& q,
                 const Tensor& k, const Tensor& v) {
  const HeadLayout& l = op.layout;
  check_layout(c, l);
  c.holds(l.value_width() == l.head_dim, "values have another width than keys");
  const DType act = c.act(names.fused, fused), acc = acc_of(act);
  c.tensor(names.fused, fused, act, fused_shape(l));
  check_rotary(c, l.rotary_dim, l.tokens, op.rotary, acc);
  check_head_norm(c, l, op.norm, acc, op.q_weight, op.k_weight, op.q_rstd, op.k_rstd);
  check_qkv(c, l, act, names, q, k, v);
}

/// What Attention and AttentionBackward have in common: the heads, what comes out of them, and lse. Returns act.
template <typename Op>
DType check_attended(const OpCheck& c, const Op& op) {
  const HeadLayout& l = op.layout;
  check_layout(c, l);
  const DType act = c.act("q", op.q);
  check_qkv(c, l, act, of_heads, op.q, op.k, op.v);
  c.tensor("out", op.out, act, {l.sequences * l.tokens, l.heads * l.value_width()});
  c.tensor("lse", op.lse, acc_of(act), {l.sequences, l.heads, l.tokens});
  return act;
}
}  // namespace

void SplitHeads::check() const {
  check_split(OpCheck("SplitHeads"), *this, of_heads, qkv, q, k, v);
}

void SplitHeadsBackward::check() const {
  const OpCheck c("SplitHeadsBackward");
  check_split(c, *this, of_gradients, dqkv, dq, dk, dv);
  if (norm == QkNorm::none) return;
  c.tensor("qkv", qkv, dqkv.dtype, dqkv.shape);
  c.tensor("dq_weight", dq_weight, q_weight.dtype, q_weight.shape);
  c.tensor("dk_weight", dk_weight, k_weight.dtype, k_weight.shape);
}

void Attention::check() const {
  check_attended(OpCheck("Attention"), *this);
}

void AttentionBackward::check() const {
  const OpCheck c("AttentionBackward");
  const DType act = check_attended(c, *this);
  check_qkv(c, layout, act, of_gradients, dq, dk, dv);
  c.tensor("dout", dout, act, out.shape);
  c.tensor("delta", delta, lse.dtype, lse.shape);
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
  c.optional("values", values, act, {keys.dim(0), l.kv_heads, keys.dim(2), l.value_width()});
}
}  // namespace

void CacheAppend::check() const {
  const OpCheck c("CacheAppend");
  check_layout(c, layout);
  const DType act = c.act("k", k);
  c.tensor("k", k, act, {layout.sequences, layout.kv_heads, layout.tokens, layout.head_dim});
  c.optional("v", v, act, {layout.sequences, layout.kv_heads, layout.tokens, layout.value_width()});
  c.holds(bool(v) == bool(values), "values are stored exactly when there are some");
  check_cache(c, layout, act, places, keys, values);
}

void CacheAttention::check() const {
  const OpCheck c("CacheAttention");
  check_layout(c, layout);
  const DType act = c.act("q", q);
  c.tensor("q", q, act, {layout.sequences, layout.heads, layout.tokens, layout.head_dim});
  check_cache(c, layout, act, places, keys, values);
  c.holds(values || layout.value_width() <= layout.head_dim, "a key has fewer elements than its value");
  c.tensor("out", out, act, {layout.sequences * layout.tokens, layout.heads * layout.value_width()});
}

// ---- latent.h -----------------------------------------------------------------------------------------------------
namespace {
void check_columns(const OpCheck& c, const Tensor& x, int64_t first, const Tensor& weight) {
  c.rank("x", x, 2);
  c.rank("weight", weight, 1);
  c.holds(first >= 0 && weight.dim(0) > 0 && first + weight.dim(0) <= x.dim(1), "the latent is not within x");
}

void check_layout(const OpCheck& c, const LatentLayout& l) {
  c.holds(l.sequences > 0 && l.tokens > 0 && l.heads > 0 && l.nope_dim > 0 && l.value_dim > 0 && l.latent > 0,
          "an empty layout");
  c.holds(l.rope_dim > 0 && l.rope_dim % 2 == 0, "rope_dim is odd or 0");
}

/// A matrix with a row for each token, of which some columns are meant.
void check_columns(const OpCheck& c, const char* field, const Tensor& t, DType act, int64_t rows, int64_t least) {
  c.rank(field, t, 2);
  c.tensor(field, t, act, {rows, t.dim(1)});
  c.holds(t.dim(1) >= least, "a row has fewer columns than the heads take");
}

Shape latent_heads(const LatentLayout& l, int64_t width) {
  return {l.sequences, l.heads, l.tokens, width};
}
Shape expansion_shape(const LatentLayout& l) {
  return {l.heads * (l.nope_dim + l.value_dim), l.latent};
}
}  // namespace

void LatentNorm::check() const {
  const OpCheck c("LatentNorm");
  const DType act = c.act("x", x);
  check_columns(c, x, first, weight);
  c.tensor("weight", weight, acc_of(act), {weight.dim(0)});
  c.tensor("y", y, act, {x.dim(0), weight.dim(0)});
  c.tensor("rstd", rstd, acc_of(act), {x.dim(0)});
  c.holds(eps >= 0, "eps is negative");
}

void LatentNormBackward::check() const {
  const OpCheck c("LatentNormBackward");
  const DType act = c.act("x", x), acc = acc_of(act);
  check_columns(c, x, first, weight);
  c.tensor("dy", dy, acc, {x.dim(0), weight.dim(0)});
  c.tensor("weight", weight, acc, {weight.dim(0)});
  c.tensor("rstd", rstd, acc, {x.dim(0)});
  c.tensor("dx", dx, act, x.shape);
  c.tensor("dweight", dweight, acc, weight.shape);
}

void SplitLatentHeads::check() const {
  const OpCheck c("SplitLatentHeads");
  check_layout(c, layout);
  const LatentLayout& l = layout;
  const DType act = c.act("queries", queries);
  check_columns(c, "queries", queries, act, l.rows(), l.heads * l.key_dim());
  c.tensor("keys_values", keys_values, act, {l.rows(), l.heads * (l.nope_dim + l.value_dim)});
  check_columns(c, "shared_key", shared_key, act, l.rows(), l.rope_dim);
  check_rotary(c, l.rope_dim, l.tokens, rotary, acc_of(act));
  c.tensor("q", q, act, latent_heads(l, l.key_dim()));
  c.tensor("k", k, act, latent_heads(l, l.key_dim()));
  c.tensor("v", v, act, latent_heads(l, l.value_dim));
}

void SplitLatentHeadsBackward::check() const {
  const OpCheck c("SplitLatentHeadsBackward");
  check_layout(c, layout);
  const LatentLayout& l = layout;
  const DType act = c.act("dq", dq);
  c.tensor("dq", dq, act, latent_heads(l, l.key_dim()));
  c.tensor("dk", dk, act, latent_heads(l, l.key_dim()));
  c.tensor("dv", dv, act, latent_heads(l, l.value_dim));
  check_rotary(c, l.rope_dim, l.tokens, rotary, acc_of(act));
  check_columns(c, "dqueries", dqueries, act, l.rows(), l.heads * l.key_dim());
  c.tensor("dkeys_values", dkeys_values, act, {l.rows(), l.heads * (l.nope_dim + l.value_dim)});
  check_columns(c, "dshared_key", dshared_key, act, l.rows(), l.rope_dim);
}

void AbsorbKeys::check() const {
  const OpCheck c("AbsorbKeys");
  check_layout(c, layout);
  const LatentLayout& l = layout;
  const DType act = c.act("queries", queries);
  check_columns(c, "queries", queries, act, l.rows(), l.heads * l.key_dim());
  c.tensor("weight", weight, act, expansion_shape(l));
  c.tensor("absorbed", absorbed, act, {l.rows(), l.heads * l.latent});
}

void ExpandValues::check() const {
  const OpCheck c("ExpandValues");
  check_layout(c, layout);
  const LatentLayout& l = layout;
  const DType act = c.act("found", found);
  c.tensor("found", found, act, {l.rows(), l.heads * l.latent});
  c.tensor("weight", weight, act, expansion_shape(l));
  c.tensor("out", out, act, {l.rows(), l.heads * l.value_dim});
}

void LatentCacheHeads::check() const {
  const OpCheck c("LatentCacheHeads");
  check_layout(c, layout);
  const LatentLayout& l = layout;
  const DType act = c.act("latent", latent);
  c.tensor("latent", latent, act, {l.rows(), l.latent});
  check_columns(c, "shared_key", shared_key, act, l.rows(), l.rope_dim);
  check_rotary(c, l.rope_dim, l.tokens, rotary, acc_of(act));
  c.tensor("row", row, act, {l.sequences, 1, l.tokens, l.cached_dim()});
  c.holds(bool(queries) == bool(absorbed) && bool(queries) == bool(q), "q is made of both queries and absorbed");
  if (!queries) return;
  check_columns(c, "queries", queries, act, l.rows(), l.heads * l.key_dim());
  c.tensor("absorbed", absorbed, act, {l.rows(), l.heads * l.latent});
  c.tensor("q", q, act, latent_heads(l, l.cached_dim()));
}

}  // namespace strand
