#pragma once
// Generation with a prefix cache: keys and values of earlier tokens are kept, so that a new token costs one token.
//
// A pass takes any tokens of any cached sequences. `prefill` starts sequences, one whole prompt in a pass; `decode`
// takes one new token of each of some sequences, whatever their lengths. No loss term is computed. As in training, the
// host never reads device data: tokens and their places are device tensors, and all sizes follow from how many they
// are.
#include <memory>
#include <vector>

#include "model/attention.h"
#include "model/context.h"
#include "model/dispatcher.h"
#include "model/parameters.h"

namespace strand {

/// New tokens on the device; those of one sequence in order.
struct NewTokens {
  Tensor ids;          ///< [T] i32, in [0, V)
  CachePlaces places;  ///< [T] i32 each
  int64_t count() const { return ids.dim(0); }
};

class Decoder {
 public:
  /// The cache, for `sequences` of at most `positions` tokens, and the rotary table come from `model`; a pass uses
  /// `step` and `scratch`.
  Decoder(Ops& ops, ProcessGrid& grid, const Config& config, const Parameters& parameters, int64_t sequences,
          int64_t positions, Arena& model, Arena& step, Arena& scratch);

  /// All tokens of one new sequence, at positions 0, 1, …; logits [1, V] acc of the token that follows.
  void prefill(const NewTokens& prompt, const Tensor& logits);
  /// One token of each of some sequences, at most as many as there are; logits [T, V] acc of the tokens that follow.
  void decode(const NewTokens& tokens, const Tensor& logits);

 private:
  Tensor forward(const NewTokens& tokens, const Tensor& rotary, Prefix prefix);
  void feed_forward(int64_t layer, const Tensor& normed, const Tensor& branch);

  Config config_;
  NumberTypes types_;
  std::unique_ptr<Dispatcher> dispatcher_;
  Context context_;
  const Parameters& parameters_;
  Tensor rotary_;                  ///< [positions, R] acc
  std::vector<LayerCache> cache_;  ///< of each layer
};

}  // namespace strand
