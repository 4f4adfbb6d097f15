#pragma once
// Multi-head latent attention (docs/mathematics.md, section 2): how heads are made from x, and attention over a cache
// of latents. attention.h calls these functions where model.attention is mla.
//
// Training makes the keys and values of every head from the latents (the *expanded* form). The cache of generation
// holds the latent and the rotated key of a token, c + p numbers; queries and outputs take over the products that would
// make keys and values (the *absorbed* form). Both are the same function.
#include "model/attention.h"

namespace strand {

LatentLayout latent_layout(const ModelConfig& model, const Batch& batch);

/// What latent attention keeps beside q, k, v, out and lse, from the step arena: `qkv` [T, r + c + p], r = q_latent or
/// H·A, `q_latent` [T, q_latent] and `q_rstd` [T] (none without), `kv_latent` [T, c] and `k_rstd` [T].
void allocate_latents(Context& c, const Batch& batch, AttentionKept& kept);

/// q, k, v, and what else is kept, from kept.normed. Uses the scratch arena.
void project_latent_heads(Context& c, const Batch& batch, const LayerTensors& w, const Tensor& rotary,
                          const AttentionKept& kept);

/// The mirror: dnormed [T, D] acc is overwritten, gradients of weights are accumulated.
void latent_heads_backward(Context& c, const Batch& batch, const LayerTensors& w, const LayerTensors& dw,
                           const Tensor& rotary, const AttentionKept& kept, const HeadGradients& heads,
                           const Tensor& dnormed);

/// attention_cached with a cache of latents. A prefix is attended to in the absorbed form; without one, the new tokens
/// attend to each other in the expanded form, which takes fewer operations.
void latent_attention_cached(Context& c, const Batch& batch, const LayerTensors& w, const Tensor& rotary,
                             const CachePlaces& places, const LayerCache& cache, Prefix prefix, const Tensor& normed,
                             const Tensor& branch);

}  // namespace strand
