#include "model/attention.h"

#include <cmath>

#include "config/rotary.h"
#include "kernels/staging.h"
#include "model/latent_attention.h"

namespace strand {

namespace {
int64_t fused_width(const ModelConfig& m) {
  return (m.num_heads + 2 * m.num_kv_heads) * m.head_dim;
}
}  // namespace

HeadLayout head_layout(const ModelConfig& m, const Batch& batch) {
  return {.sequences = batch.sequences,
          .tokens = batch.tokens,
          .heads = m.num_heads,
          .kv_heads = m.num_kv_heads,
          .head_dim = m.head_dim,
          .rotary_dim = m.rotary_dim(),
          .value_dim = m.value_dim(),
          .score_factor = score_factor(m)};
}

std::vector<double> rotary_table(const ModelConfig& model, int64_t positions) {
  const int64_t r = model.rotary_dim(), half = r / 2;
  const double magnitude = rotary_magnitude(model);
  std::vector<double> table(static_cast<size_t>(positions * r));
  for (int64_t i = 0; i < half; ++i) {
    const double frequency = rotary_frequency(model, i);
    for (int64_t p = 0; p < positions; ++p) {
      const double angle = static_cast<double>(p) * frequency;
      table[static_cast<size_t>(p * r + i)] = magnitude * std::cos(angle);
      table[static_cast<size_t>(p * r + half + i)] = magnitude * std::sin(angle);
    }
  }
  return table;
}

Tensor upload_rotary_table(Context& c, Arena& arena, int64_t positions) {
  if (c.model.rotary_dim() == 0) return {};
  const Tensor table = arena.allocate("rotary table", c.types.acc, {positions, c.model.rotary_dim()});
  upload_values(c.ops, table, rotary_table(c.model, positions));
  return table;
}

AttentionKept AttentionKept::allocate(Context& c, const Batch& batch) {
  const ModelConfig& m = c.model;
  const int64_t b = batch.sequences, s = batch.tokens, t = batch.rows(), a = m.head_dim;
  const DType act = c.types.act, acc = c.types.acc;
  AttentionKept k;
  k.normed = c.step.allocate("attn.normed", act, {t, m.hidden_size});
  k.rstd = c.step.allocate("attn.rstd", acc, {t});
  k.q = c.step.allocate("attn.q", act, {b, m.num_heads, s, a});
  k.k = c.step.allocate("attn.k", act, {b, m.num_kv_heads, s, a});
  k.v = c.step.allocate("attn.v", act, {b, m.num_kv_heads, s, m.value_dim()});
  k.out = c.step.allocate("attn.out", act, {t, m.num_heads * m.value_dim()});
  k.lse = c.step.allocate("attn.lse", acc, {b, m.num_heads, s});
  if (m.latent()) {
    allocate_latents(c, batch, k);
  } else if (m.qk_norm != QkNorm::none) {
    const bool full = m.qk_norm == QkNorm::full;
    k.qkv = c.step.allocate("attn.qkv", act, {t, fused_width(m)});
    k.q_rstd = c.step.allocate("attn.q_rstd", acc, {t, full ? 1 : m.num_heads});
    k.k_rstd = c.step.allocate("attn.k_rstd", acc, {t, full ? 1 : m.num_kv_heads});
  }
  return k;
}

namespace {
/// q, k and v of kept.normed; `qkv` takes the fused projection.
void project_heads(Context& c, const HeadLayout& layout, const LayerTensors& w, const Tensor& rotary,
                   const AttentionKept& kept, const Tensor& qkv) {
  c.ops(Linear{.x = kept.normed, .weight = w.qkv, .y = qkv});
  c.ops(SplitHeads{.layout = layout,
                   .qkv = qkv,
                   .rotary = rotary,
                   .norm = c.model.qk_norm,
                   .q_weight = w.q_norm,
                   .k_weight = w.k_norm,
                   .eps = c.model.norm_eps,
                   .q = kept.q,
                   .k = kept.k,
                   .v = kept.v,
                   .q_rstd = kept.q_rstd,
                   .k_rstd = kept.k_rstd});
}

/// The gradient of kept.normed, and of the weights, from those of q, k and v.
void project_heads_backward(Context& c, const HeadLayout& layout, const LayerTensors& w, const LayerTensors& dw,
                            const Tensor& rotary, const AttentionKept& kept, const HeadGradients& heads,
                            const Tensor& dnormed) {
  const Tensor dqkv = c.scratch.allocate("dqkv", c.types.act, {kept.normed.dim(0), fused_width(c.model)});
  c.ops(SplitHeadsBackward{.layout = layout,
                           .dq = heads.dq,
                           .dk = heads.dk,
                           .dv = heads.dv,
                           .rotary = rotary,
                           .norm = c.model.qk_norm,
                           .qkv = kept.qkv,
                           .q_weight = w.q_norm,
                           .k_weight = w.k_norm,
                           .q_rstd = kept.q_rstd,
                           .k_rstd = kept.k_rstd,
                           .dq_weight = dw.q_norm,
                           .dk_weight = dw.k_norm,
                           .dqkv = dqkv});
  c.ops(LinearBackwardInput{.dy = dqkv, .weight = w.qkv, .dx = dnormed});
  c.ops(LinearBackwardWeight{.dy = dqkv, .x = kept.normed, .dweight = dw.qkv});
}
}  // namespace

void attention_forward(Context& c, const Batch& batch, const LayerTensors& w, const Tensor& rotary,
                       const AttentionKept& kept, const Tensor& branch) {
  const Arena::Scope scope(c.scratch);
  const HeadLayout layout = head_layout(c.model, batch);
  if (c.model.latent()) {
    project_latent_heads(c, batch, w, rotary, kept);
  } else {
    const Shape fused{batch.rows(), fused_width(c.model)};
    project_heads(c, layout, w, rotary, kept, kept.qkv ? kept.qkv : c.scratch.allocate("qkv", c.types.act, fused));
  }
  c.ops(Attention{.layout = layout, .q = kept.q, .k = kept.k, .v = kept.v, .out = kept.out, .lse = kept.lse});
  c.ops(Linear{.x = kept.out, .weight = w.o_proj, .y = branch});
}

void attention_backward(Context& c, const Batch& batch, const LayerTensors& w, const LayerTensors& dw,
                        const Tensor& rotary, const AttentionKept& kept, const Tensor& dbranch, const Tensor& dnormed) {
  const Arena::Scope scope(c.scratch);
  const HeadLayout layout = head_layout(c.model, batch);
  const DType act = c.types.act;
  const Tensor dout = c.scratch.allocate("dout", act, kept.out.shape);
  c.ops(LinearBackwardInput{.dy = dbranch, .weight = w.o_proj, .dx = dout});
  c.ops(LinearBackwardWeight{.dy = dbranch, .x = kept.out, .dweight = dw.o_proj});

  const HeadGradients heads{c.scratch.allocate("dq", act, kept.q.shape), c.scratch.allocate("dk", act, kept.k.shape),
                            c.scratch.allocate("dv", act, kept.v.shape)};
  c.ops(AttentionBackward{.layout = layout,
                          .q = kept.q,
                          .k = kept.k,
                          .v = kept.v,
                          .out = kept.out,
                          .lse = kept.lse,
                          .dout = dout,
                          .delta = c.scratch.allocate("delta", c.types.acc, kept.lse.shape),
                          .dq = heads.dq,
                          .dk = heads.dk,
                          .dv = heads.dv});
  if (c.model.latent()) return latent_heads_backward(c, batch, w, dw, rotary, kept, heads, dnormed);
  project_heads_backward(c, layout, w, dw, rotary, kept, heads, dnormed);
}

LayerCache LayerCache::allocate(Arena& arena, const ModelConfig& m, DType act, int64_t sequences, int64_t positions) {
  if (m.latent())
    return {arena.allocate("cache.latents", act, {sequences, 1, positions, m.kv_latent + m.rope_head_dim}), {}};
  const Shape shape{sequences, m.num_kv_heads, positions, m.head_dim};
  return {arena.allocate("cache.keys", act, shape), arena.allocate("cache.values", act, shape)};
}

// Norm, rotation and products are those of training; only the heads' norms keep nothing.
void attention_cached(Context& c, const Batch& batch, const LayerTensors& w, const Tensor& rotary,
                      const CachePlaces& places, const LayerCache& cache, Prefix prefix, const Tensor& normed,
                      const Tensor& branch) {
  if (c.model.latent()) return latent_attention_cached(c, batch, w, rotary, places, cache, prefix, normed, branch);
  const Arena::Scope scope(c.step);
  const HeadLayout layout = head_layout(c.model, batch);
  AttentionKept kept = AttentionKept::allocate(c, batch);
  if (!kept.qkv) kept.qkv = c.step.allocate("attn.qkv", c.types.act, {batch.rows(), fused_width(c.model)});
  kept.normed = normed;
  project_heads(c, layout, w, rotary, kept, kept.qkv);
  c.ops(CacheAppend{
      .layout = layout, .k = kept.k, .v = kept.v, .places = places, .keys = cache.keys, .values = cache.values});
  if (prefix == Prefix::none) {
    c.ops(Attention{.layout = layout, .q = kept.q, .k = kept.k, .v = kept.v, .out = kept.out, .lse = kept.lse});
  } else {
    c.ops(CacheAttention{
        .layout = layout, .q = kept.q, .places = places, .keys = cache.keys, .values = cache.values, .out = kept.out});
  }
  c.ops(Linear{.x = kept.out, .weight = w.o_proj, .y = branch});
}

}  // namespace strand
