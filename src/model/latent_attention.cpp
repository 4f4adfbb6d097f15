#include "model/latent_attention.h"

#include <cmath>

namespace strand {

namespace {
constexpr double latent_eps = 1e-6;  ///< of the latents' norms, whatever model.norm_eps is

/// Columns of x's projection before the latent of keys and values: the latent of queries, or the queries themselves.
int64_t query_columns(const ModelConfig& m) {
  return m.q_latent > 0 ? m.q_latent : m.num_heads * m.head_dim;
}
int64_t projected_width(const ModelConfig& m) {
  return query_columns(m) + m.kv_latent + m.rope_head_dim;
}

/// [T, ≥ H·A]: the heads' queries, not rotated; and the normed latents, from kept.normed. What is not kept comes from
/// `arena`.
Tensor project_latents(Context& c, Arena& arena, const LayerTensors& w, const AttentionKept& kept) {
  const ModelConfig& m = c.model;
  c.ops(Linear{.x = kept.normed, .weight = w.qkv, .y = kept.qkv});
  c.ops(LatentNorm{.x = kept.qkv,
                   .first = query_columns(m),
                   .weight = w.k_norm,
                   .eps = latent_eps,
                   .y = kept.kv_latent,
                   .rstd = kept.k_rstd});
  if (m.q_latent == 0) return kept.qkv;
  c.ops(LatentNorm{
      .x = kept.qkv, .first = 0, .weight = w.q_norm, .eps = latent_eps, .y = kept.q_latent, .rstd = kept.q_rstd});
  const Tensor queries = arena.allocate("latent queries", c.types.act, {kept.normed.dim(0), m.num_heads * m.head_dim});
  c.ops(Linear{.x = kept.q_latent, .weight = w.q_b, .y = queries});
  return queries;
}

/// q, k and v in the expanded form.
void expand(Context& c, Arena& arena, const LatentLayout& layout, const LayerTensors& w, const Tensor& rotary,
            const AttentionKept& kept, const Tensor& queries) {
  const Tensor keys_values = arena.allocate("keys and values", c.types.act,
                                            {layout.rows(), layout.heads * (layout.nope_dim + layout.value_dim)});
  c.ops(Linear{.x = kept.kv_latent, .weight = w.kv_b, .y = keys_values});
  c.ops(SplitLatentHeads{.layout = layout,
                         .queries = queries,
                         .keys_values = keys_values,
                         .shared_key = kept.qkv,
                         .rotary = rotary,
                         .q = kept.q,
                         .k = kept.k,
                         .v = kept.v});
}

/// A latent's norm and its projection backwards: from the gradient of what it was projected to, `dy`, to the columns of
/// dqkv from `first` on. `latent` and `rstd` are what forward kept.
struct LatentBackward {
  Tensor dy, weight, dweight;
  Tensor latent, rstd, norm, dnorm;
  int64_t first;
};
void latent_backward(Context& c, const LatentBackward& b, const Tensor& qkv, const Tensor& dqkv) {
  const Arena::Scope scope(c.scratch);
  const Tensor dlatent = c.scratch.allocate("dlatent", c.types.acc, b.latent.shape);
  c.ops(LinearBackwardInput{.dy = b.dy, .weight = b.weight, .dx = dlatent});
  c.ops(LinearBackwardWeight{.dy = b.dy, .x = b.latent, .dweight = b.dweight});
  c.ops(LatentNormBackward{
      .dy = dlatent, .x = qkv, .first = b.first, .weight = b.norm, .rstd = b.rstd, .dx = dqkv, .dweight = b.dnorm});
}
}  // namespace

LatentLayout latent_layout(const ModelConfig& m, const Batch& batch) {
  return {.sequences = batch.sequences,
          .tokens = batch.tokens,
          .heads = m.num_heads,
          .nope_dim = m.nope_head_dim,
          .rope_dim = m.rope_head_dim,
          .value_dim = m.value_head_dim,
          .latent = m.kv_latent};
}

void allocate_latents(Context& c, const Batch& batch, AttentionKept& kept) {
  const ModelConfig& m = c.model;
  const int64_t t = batch.rows();
  const DType act = c.types.act, acc = c.types.acc;
  kept.qkv = c.step.allocate("attn.qkv", act, {t, projected_width(m)});
  kept.kv_latent = c.step.allocate("attn.kv_latent", act, {t, m.kv_latent});
  kept.k_rstd = c.step.allocate("attn.k_rstd", acc, {t});
  if (m.q_latent == 0) return;
  kept.q_latent = c.step.allocate("attn.q_latent", act, {t, m.q_latent});
  kept.q_rstd = c.step.allocate("attn.q_rstd", acc, {t});
}

void project_latent_heads(Context& c, const Batch& batch, const LayerTensors& w, const Tensor& rotary,
                          const AttentionKept& kept) {
  const Tensor queries = project_latents(c, c.scratch, w, kept);
  expand(c, c.scratch, latent_layout(c.model, batch), w, rotary, kept, queries);
}

void latent_heads_backward(Context& c, const Batch& batch, const LayerTensors& w, const LayerTensors& dw,
                           const Tensor& rotary, const AttentionKept& kept, const HeadGradients& heads,
                           const Tensor& dnormed) {
  const ModelConfig& m = c.model;
  const LatentLayout l = latent_layout(m, batch);
  const DType act = c.types.act;
  const Tensor dqkv = c.scratch.allocate("dqkv", act, kept.qkv.shape);
  const Tensor dkeys_values =
      c.scratch.allocate("dkeys and values", act, {l.rows(), l.heads * (l.nope_dim + l.value_dim)});
  const Tensor dqueries =
      m.q_latent > 0 ? c.scratch.allocate("dqueries", act, {l.rows(), l.heads * l.key_dim()}) : dqkv;
  c.ops(SplitLatentHeadsBackward{.layout = l,
                                 .dq = heads.dq,
                                 .dk = heads.dk,
                                 .dv = heads.dv,
                                 .rotary = rotary,
                                 .dqueries = dqueries,
                                 .dkeys_values = dkeys_values,
                                 .dshared_key = dqkv});
  latent_backward(c,
                  {.dy = dkeys_values,
                   .weight = w.kv_b,
                   .dweight = dw.kv_b,
                   .latent = kept.kv_latent,
                   .rstd = kept.k_rstd,
                   .norm = w.k_norm,
                   .dnorm = dw.k_norm,
                   .first = query_columns(m)},
                  kept.qkv, dqkv);
  if (m.q_latent > 0)
    latent_backward(c,
                    {.dy = dqueries,
                     .weight = w.q_b,
                     .dweight = dw.q_b,
                     .latent = kept.q_latent,
                     .rstd = kept.q_rstd,
                     .norm = w.q_norm,
                     .dnorm = dw.q_norm,
                     .first = 0},
                    kept.qkv, dqkv);
  c.ops(LinearBackwardInput{.dy = dqkv, .weight = w.qkv, .dx = dnormed});
  c.ops(LinearBackwardWeight{.dy = dqkv, .x = kept.normed, .dweight = dw.qkv});
}

namespace {
/// All heads over one row of c + p numbers a position: key and, in its first c numbers, value.
HeadLayout cached_layout(const ModelConfig& m, const Batch& batch) {
  HeadLayout layout = head_layout(m, batch);
  const int64_t width = m.kv_latent + m.rope_head_dim;
  // The scores are those of heads of head_dim numbers, whatever the width of a row.
  layout.score_factor *= std::sqrt(static_cast<double>(width) / static_cast<double>(m.head_dim));
  layout.kv_heads = 1;
  layout.head_dim = width;
  layout.value_dim = m.kv_latent;
  return layout;
}

void append(Context& c, const HeadLayout& layout, const Tensor& row, const CachePlaces& places,
            const LayerCache& cache) {
  c.ops(CacheAppend{.layout = layout, .k = row, .v = {}, .places = places, .keys = cache.keys, .values = {}});
}

/// kept.out from the new tokens alone.
void attend_expanded(Context& c, const Batch& batch, const LayerTensors& w, const Tensor& rotary,
                     const AttentionKept& kept, const Tensor& queries) {
  expand(c, c.step, latent_layout(c.model, batch), w, rotary, kept, queries);
  c.ops(Attention{
      .layout = head_layout(c.model, batch), .q = kept.q, .k = kept.k, .v = kept.v, .out = kept.out, .lse = kept.lse});
}
}  // namespace

void latent_attention_cached(Context& c, const Batch& batch, const LayerTensors& w, const Tensor& rotary,
                             const CachePlaces& places, const LayerCache& cache, Prefix prefix, const Tensor& normed,
                             const Tensor& branch) {
  const Arena::Scope scope(c.step);
  const LatentLayout l = latent_layout(c.model, batch);
  const HeadLayout cached = cached_layout(c.model, batch);
  const DType act = c.types.act;
  const bool absorbs = prefix == Prefix::cached;
  AttentionKept kept;
  if (absorbs) {
    allocate_latents(c, batch, kept);
    kept.out = c.step.allocate("attn.out", act, {l.rows(), l.heads * l.value_dim});
  } else {
    kept = AttentionKept::allocate(c, batch);
  }
  kept.normed = normed;
  const Tensor queries = project_latents(c, c.step, w, kept);
  LatentCacheHeads heads{.layout = l,
                         .latent = kept.kv_latent,
                         .shared_key = kept.qkv,
                         .rotary = rotary,
                         .row = c.step.allocate("cache row", act, {l.sequences, 1, l.tokens, l.cached_dim()})};
  if (absorbs) {
    heads.queries = queries;
    heads.absorbed = c.step.allocate("absorbed queries", act, {l.rows(), l.heads * l.latent});
    heads.q = c.step.allocate("cache queries", act, {l.sequences, l.heads, l.tokens, l.cached_dim()});
    c.ops(AbsorbKeys{.layout = l, .queries = queries, .weight = w.kv_b, .absorbed = heads.absorbed});
  }
  c.ops(heads);
  append(c, cached, heads.row, places, cache);
  if (absorbs) {
    const Tensor found = heads.absorbed;  // its place: nobody reads it any more
    c.ops(CacheAttention{
        .layout = cached, .q = heads.q, .places = places, .keys = cache.keys, .values = {}, .out = found});
    c.ops(ExpandValues{.layout = l, .found = found, .weight = w.kv_b, .out = kept.out});
  } else {
    attend_expanded(c, batch, w, rotary, kept, queries);
  }
  c.ops(Linear{.x = kept.out, .weight = w.o_proj, .y = branch});
}

}  // namespace strand
