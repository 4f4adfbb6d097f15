#pragma once
// Causal grouped-query attention: heads are split off the fused projection (norm of q and k, rotary embedding and the
// change to head-major layout in one pass), then attended in blocks, so that memory stays linear in the sequence.
#include "core/model_kinds.h"
#include "core/tensor.h"

namespace strand {

struct HeadLayout {
  int64_t sequences = 0;    ///< B
  int64_t tokens = 0;       ///< S, in each sequence
  int64_t heads = 0;        ///< H
  int64_t kv_heads = 0;     ///< G; query head h reads key/value head h / (H / G)
  int64_t head_dim = 0;     ///< A
  int64_t rotary_dim = 0;   ///< the first rotary_dim of the A values are rotated, pairs (i, i + rotary_dim/2); even
  int64_t value_dim = 0;    ///< U, width of a value and of a head's output; 0: head_dim. SplitHeads has no other
  double score_factor = 1;  ///< f, of the scores, beside 1/√A

  int64_t value_width() const { return value_dim > 0 ? value_dim : head_dim; }
};

/// q, k, v = heads of qkv; q and k normalized (optional), then rotated by the angles of their position in the sequence.
struct SplitHeads {
  HeadLayout layout;
  Tensor qkv;     ///< [B·S, (H + 2G)·A] act: columns of q, then k, then v
  Tensor rotary;  ///< [≥ S, rotary_dim] acc: row p is cos of the rotary_dim/2 angles of position p, then their sin
  QkNorm norm = QkNorm::none;  ///< over the A values of each head, or all H·A (q) and G·A (k) values of a token
  Tensor q_weight, k_weight;   ///< norm weights, acc: [A] each for head, [H·A] and [G·A] for full, none without
  double eps = 0;
  Tensor q;               ///< [B, H, S, A] act
  Tensor k, v;            ///< [B, G, S, A] act
  Tensor q_rstd, k_rstd;  ///< acc: [B·S, H] and [B·S, G] for head, [B·S, 1] for full, none without
  void check() const;
};

/// The mirror: dqkv from dq, dk, dv. The norms' weights get their gradients; without a norm, qkv is not read and may be
/// none.
struct SplitHeadsBackward {
  HeadLayout layout;
  Tensor dq, dk, dv;  ///< as q, k, v
  Tensor rotary;
  QkNorm norm = QkNorm::none;
  Tensor qkv;  ///< as in forward
  Tensor q_weight, k_weight;
  Tensor q_rstd, k_rstd;
  Tensor dq_weight, dk_weight;  ///< acc, accumulated
  Tensor dqkv;                  ///< [B·S, (H + 2G)·A] act
  void check() const;
};

/// out = softmax(f q kᵀ / √A, causal) v, per sequence and head. lse keeps log Σ exp of each row's scaled scores.
struct Attention {
  HeadLayout layout;
  Tensor q;    ///< [B, H, S, A] act
  Tensor k;    ///< [B, G, S, A] act
  Tensor v;    ///< [B, G, S, U] act
  Tensor out;  ///< [B·S, H·U] act
  Tensor lse;  ///< [B, H, S] acc
  void check() const;
};

/// Probabilities are recomputed block by block from q, k and lse.
/// With P the probabilities, Δ_s = ⟨dout_s, out_s⟩:  dV = Pᵀ dO;  dS = P ⊙ (dO Vᵀ − Δ);  dQ = f dS K /√A;
/// dK = f dSᵀ Q /√A.
struct AttentionBackward {
  HeadLayout layout;
  Tensor q, k, v, out, lse;  ///< as in forward
  Tensor dout;               ///< [B·S, H·U] act
  Tensor delta;              ///< [B, H, S] acc, scratch
  Tensor dq;                 ///< [B, H, S, A] act
  Tensor dk;                 ///< [B, G, S, A] act
  Tensor dv;                 ///< [B, G, S, U] act
  void check() const;
};

}  // namespace strand
