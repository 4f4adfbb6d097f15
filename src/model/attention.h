#pragma once
// The attention half of a layer: a = o_proj(attention(rmsnorm(x))). Forward and backward side by side.
#include "model/context.h"
#include "model/parameters.h"

namespace strand {

/// What forward keeps for backward.
struct AttentionKept {
  Tensor normed;          ///< [T, D] act, output of the norm
  Tensor rstd;            ///< [T] acc
  Tensor qkv;             ///< [T, (H + 2G)·A] act, before the heads' norm; none without qk_norm
  Tensor q, k, v;         ///< [B, H, S, A], [B, G, S, A] ×2 act
  Tensor q_rstd, k_rstd;  ///< acc; none without qk_norm
  Tensor out;             ///< [T, H·A] act
  Tensor lse;             ///< [B, H, S] acc

  /// Takes the tensors from the step arena.
  static AttentionKept allocate(Context& c, const Batch& batch);
};

HeadLayout head_layout(const ModelConfig& model, const Batch& batch);

/// cos and sin of the rotary angles for positions [0, positions): host values, [positions, R] (SplitHeads::rotary).
std::vector<double> rotary_table(const ModelConfig& model, int64_t positions);

/// branch = o_proj(attention(kept.normed)); normed and rstd are already there (AddRmsNorm).
void attention_forward(Context& c, const Batch& batch, const LayerTensors& w, const Tensor& rotary,
                       const AttentionKept& kept, const Tensor& branch);

/// dnormed [T, D] acc is overwritten with the gradient of kept.normed; weight gradients are accumulated.
void attention_backward(Context& c, const Batch& batch, const LayerTensors& w, const LayerTensors& dw,
                        const Tensor& rotary, const AttentionKept& kept, const Tensor& dbranch, const Tensor& dnormed);

}  // namespace strand
