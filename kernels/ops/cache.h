#pragma once
// Attention over a prefix cache, for generation: keys and values of the tokens so far are kept, so that a new token
// costs one token. The tokens of a batch may belong to any of the cached sequences at any positions; which ones, only
// the device knows, so one sequence of operations serves prompts of every length.
#include "core/tensor.h"
#include "kernels/ops/attention.h"

namespace strand {

/// Where each token of a batch (row b·S + s) belongs in a cache of N sequences of C positions. The ids are checked by
/// whoever made them; no two rows name the same place.
struct CachePlaces {
  Tensor sequence;  ///< [B·S] i32, in [0, N)
  Tensor position;  ///< [B·S] i32, in [0, C)
};

/// keys[sequence_t, :, position_t] = k of token t, and values[sequence_t, :, position_t] = v of token t; nothing else
/// in the cache changes. Without v and values, the cache has keys only.
struct CacheAppend {
  HeadLayout layout;
  Tensor k;  ///< [B, G, S, A] act
  Tensor v;  ///< [B, G, S, U] act, or none
  CachePlaces places;
  Tensor keys;    ///< [N, G, C, A] act
  Tensor values;  ///< [N, G, C, U] act, none exactly when v is none
  void check() const;
};

/// out_t = softmax(f q_t keysᵀ / √A) values over positions 0 … position_t of the token's sequence in the cache, where
/// its own key and value lie already (CacheAppend). Without values, the value of a position is the first U elements of
/// its key (latent attention, ops/latent.h).
struct CacheAttention {
  HeadLayout layout;
  Tensor q;  ///< [B, H, S, A] act
  CachePlaces places;
  Tensor keys;    ///< [N, G, C, A] act
  Tensor values;  ///< [N, G, C, U] act, or none; then U ≤ A
  Tensor out;     ///< [B·S, H·U] act
  void check() const;
};

}  // namespace strand
