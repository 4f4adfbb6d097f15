#pragma once
// The attention half of a layer: a = o_proj(attention(rmsnorm(x))). Forward and backward side by side. How heads are
// made from x, and what a cache holds, is here for ordinary attention and in latent_attention.h for latent attention.
#include "model/context.h"
#include "model/parameters.h"

namespace strand {

/// What forward keeps for backward.
struct AttentionKept {
  Tensor normed;               ///< [T, D] act, output of the norm
  Tensor rstd;                 ///< [T] acc
  Tensor qkv;                  ///< [T, (H + 2G)·A] act, before the heads' norm; none without qk_norm
  Tensor q, k, v;              ///< [B, H, S, A], [B, G, S, A], [B, G, S, U] act
  Tensor q_rstd, k_rstd;       ///< acc; none without qk_norm
  Tensor q_latent, kv_latent;  ///< act, normed: latent attention only (latent_attention.h)
  Tensor out;                  ///< [T, H·U] act
  Tensor lse;                  ///< [B, H, S] acc

  /// Takes the tensors from the step arena.
  static AttentionKept allocate(Context& c, const Batch& batch);
};

/// Gradients of q, k and v, of their shapes.
struct HeadGradients {
  Tensor dq, dk, dv;
};

HeadLayout head_layout(const ModelConfig& model, const Batch& batch);

/// cos and sin of the rotary angles for positions [0, positions): host values, [positions, R] (SplitHeads::rotary).
std::vector<double> rotary_table(const ModelConfig& model, int64_t positions);
/// The same on the device: [positions, R] acc from `arena`; none when nothing is rotated.
Tensor upload_rotary_table(Context& c, Arena& arena, int64_t positions);

/// branch = o_proj(attention(kept.normed)); normed and rstd are already there (AddRmsNorm).
void attention_forward(Context& c, const Batch& batch, const LayerTensors& w, const Tensor& rotary,
                       const AttentionKept& kept, const Tensor& branch);

/// dnormed [T, D] acc is overwritten with the gradient of kept.normed; weight gradients are accumulated.
void attention_backward(Context& c, const Batch& batch, const LayerTensors& w, const LayerTensors& dw,
                        const Tensor& rotary, const AttentionKept& kept, const Tensor& dbranch, const Tensor& dnormed);

/// Keys and values of one layer's earlier tokens.
struct LayerCache {
  Tensor keys;    ///< [N, G, C, A] act; latent attention: [N, 1, C, c + p]
  Tensor values;  ///< [N, G, C, A] act; none in latent attention

  /// For `sequences` of at most `positions` tokens.
  static LayerCache allocate(Arena& arena, const ModelConfig& model, DType act, int64_t sequences, int64_t positions);
};
/// What new tokens see besides each other: nothing (they start their sequence), or what the cache holds of it.
enum class Prefix : uint8_t { none, cached };

/// Inference: keys and values of the batch's tokens go to their places in the cache; branch [T, D] acc =
/// o_proj(attention over them and their prefix), normed [T, D] act. Row s of `rotary` is for token s of a sequence of
/// the batch.
void attention_cached(Context& c, const Batch& batch, const LayerTensors& w, const Tensor& rotary,
                      const CachePlaces& places, const LayerCache& cache, Prefix prefix, const Tensor& normed,
                      const Tensor& branch);

}  // namespace strand
