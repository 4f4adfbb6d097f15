#pragma once
// What multi-head latent attention (DeepSeek-AI 2024, https://arxiv.org/abs/2405.04434, section 2.1) has around
// Attention and CacheAttention. docs/mathematics.md, section 2.
//
// A token has a latent of c numbers, from which the keys and values of all heads are made, and one rotated key of p
// numbers that all heads share. Training makes keys and values of every head (SplitLatentHeads) and attends to them as
// usual. A cache keeps the c + p numbers alone: the part of the product that would make keys is moved to the queries
// (AbsorbKeys), all heads attend to the latents, and values are made of what they found there (ExpandValues).
#include "core/tensor.h"
#include "kernels/ops/attention.h"

namespace strand {

/// RMSNorm of some columns of a matrix: y[t] = x_t · rsqrt(mean(x_t²) + eps) · weight, x_t = x[t, first … first + n).
struct LatentNorm {
  Tensor x;           ///< [T, W] act
  int64_t first = 0;  ///< column where the latent begins
  Tensor weight;      ///< [n] acc
  double eps = 0;
  Tensor y;     ///< [T, n] act
  Tensor rstd;  ///< [T] acc
  void check() const;
};

/// The mirror, as RmsNormBackward: the same columns of dx are overwritten, all others stay.
struct LatentNormBackward {
  Tensor dy;  ///< [T, n] acc
  Tensor x;   ///< [T, W] act, as in forward
  int64_t first = 0;
  Tensor weight;   ///< [n] acc
  Tensor rstd;     ///< [T] acc
  Tensor dx;       ///< [T, W] act
  Tensor dweight;  ///< [n] acc, accumulated
  void check() const;
};

struct LatentLayout {
  int64_t sequences = 0;  ///< B
  int64_t tokens = 0;     ///< S, in each sequence
  int64_t heads = 0;      ///< H
  int64_t nope_dim = 0;   ///< n, of a head's query and key: not rotated
  int64_t rope_dim = 0;   ///< p, of a head's query and key: rotated, pairs (i, i + p/2); even
  int64_t value_dim = 0;  ///< v, of a head's value
  int64_t latent = 0;     ///< c

  int64_t rows() const { return sequences * tokens; }
  int64_t key_dim() const { return nope_dim + rope_dim; }
  int64_t cached_dim() const { return latent + rope_dim; }
};

/// Heads for Attention: q_h = [q^n_h | rot q^p_h], k_h = [k^n_h | rot k^p], v_h.
struct SplitLatentHeads {
  LatentLayout layout;
  Tensor queries;      ///< [B·S, ≥ H(n + p)] act: from column 0 on, for each head n columns, then p
  Tensor keys_values;  ///< [B·S, H(n + v)] act: for each head n columns of k, then v of v
  Tensor shared_key;   ///< [B·S, W] act: k^p is its last p columns
  Tensor rotary;       ///< [≥ S, p] acc, as in SplitHeads
  Tensor q, k;         ///< [B, H, S, n + p] act
  Tensor v;            ///< [B, H, S, v] act
  void check() const;
};

/// The mirror. The gradient of the shared key is summed over the heads in acc, in their order. Other columns of
/// dqueries and dshared_key, which may be the same tensor, stay.
struct SplitLatentHeadsBackward {
  LatentLayout layout;
  Tensor dq, dk, dv;  ///< as q, k, v
  Tensor rotary;
  Tensor dqueries;      ///< [B·S, ≥ H(n + p)] act
  Tensor dkeys_values;  ///< [B·S, H(n + v)] act
  Tensor dshared_key;   ///< [B·S, W] act
  void check() const;
};

/// absorbed_h = q^n_h W^k_h, where W^k_h are the first n of the n + v rows of head h of `weight`: then
/// ⟨absorbed_h, latent⟩ = ⟨q^n_h, k^n_h⟩.
struct AbsorbKeys {
  LatentLayout layout;
  Tensor queries;   ///< [B·S, ≥ H(n + p)] act, as in SplitLatentHeads
  Tensor weight;    ///< [H(n + v), c] act
  Tensor absorbed;  ///< [B·S, H·c] act
  void check() const;
};

/// out_h = found_h W^v_hᵀ, where W^v_h are the last v of the n + v rows of head h of `weight`.
struct ExpandValues {
  LatentLayout layout;
  Tensor found;   ///< [B·S, H·c] act: what the heads found in the latents (CacheAttention)
  Tensor weight;  ///< [H(n + v), c] act
  Tensor out;     ///< [B·S, H·v] act
  void check() const;
};

/// Row for the cache, and queries for it: row = [latent | rot k^p], q_h = [absorbed_h | rot q^p_h].
struct LatentCacheHeads {
  LatentLayout layout;
  Tensor latent;      ///< [B·S, c] act
  Tensor shared_key;  ///< [B·S, W] act, as in SplitLatentHeads
  Tensor rotary;      ///< [≥ S, p] acc
  Tensor queries;     ///< [B·S, ≥ H(n + p)] act, or none: no q then
  Tensor absorbed;    ///< [B·S, H·c] act, none exactly when queries is none
  Tensor row;         ///< [B, 1, S, c + p] act
  Tensor q;           ///< [B, H, S, c + p] act, none exactly when queries is none
  void check() const;
};

}  // namespace strand
