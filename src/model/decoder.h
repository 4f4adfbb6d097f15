#pragma once
// Generation and scoring with a prefix cache: keys and values of earlier tokens are kept, so that a new token costs one
// token.
//
// A pass takes any tokens of any cached sequences. `prefill` starts a sequence with its whole prompt. `decode` takes
// one new token of each of some sequences, whatever their lengths are. Scoring has passes of its own, `start` and
// `extend`, with many tokens of many sequences; `logits` then gives the logits of some of their rows. No loss term is
// computed. As in training, the host never reads device data: tokens and their places are device tensors, and all sizes
// follow from how many tokens there are.
#include <memory>
#include <vector>

#include "model/attention.h"
#include "model/context.h"
#include "model/dispatcher.h"
#include "model/parameters.h"

namespace strand {

/// New tokens on the device. Those of one sequence come in their order.
struct NewTokens {
  Tensor ids;          ///< [T] i32, in [0, V)
  CachePlaces places;  ///< [T] i32 each
  int64_t count() const { return ids.dim(0); }
};

class Decoder {
 public:
  /// The cache, for `sequences` of at most `positions` tokens, and the rotary table are allocated from `model`. A pass
  /// takes its memory from `step` and `scratch`.
  Decoder(Ops& ops, ProcessGrid& grid, const Config& config, const Parameters& parameters, int64_t sequences,
          int64_t positions, Arena& model, Arena& step, Arena& scratch);

  /// Takes all tokens of one new sequence, at positions from 0. Writes the logits [1, V] acc of the token that follows.
  void prefill(const NewTokens& prompt, const Tensor& logits);
  /// Takes one more token of each of some sequences. Writes the logits [T, V] acc of the tokens that follow.
  void decode(const NewTokens& tokens, const Tensor& logits);

  /// Scoring: takes equally many tokens of each of some new sequences, one sequence after the other, at positions from
  /// 0. The last ones may be padding: no token before them sees them, and `extend` may put others in their places.
  void start(const NewTokens& tokens, int64_t sequences);
  /// Scoring: takes tokens that follow what the cache holds of their sequences, any number of each sequence.
  void extend(const NewTokens& tokens);
  /// Makes sequence `to` of the cache equal to sequence `from`.
  void copy_sequence(int64_t from, int64_t to);
  /// Writes the logits [R, V] acc of the tokens that follow `rows` [R] i32 of the last `start` or `extend`. A row is
  /// the place of a token in that pass.
  void logits(const Tensor& rows, const Tensor& logits);

 private:
  /// [T] = tokens of `sequences` sequences of equal length.
  Tensor forward(const NewTokens& tokens, int64_t sequences, const Tensor& rotary, Prefix prefix);
  Tensor gathered_rotary(const NewTokens& tokens);
  void feed_forward(int64_t layer, const Tensor& normed, const Tensor& branch);

  Config config_;
  NumberTypes types_;
  std::unique_ptr<Dispatcher> dispatcher_;
  Context context_;
  const Parameters& parameters_;
  Tensor rotary_;                  ///< [positions, R] acc
  std::vector<LayerCache> cache_;  ///< of each layer
  Tensor hidden_;                  ///< [T, D] act, after the last norm, of the last start or extend; in the step arena
};

}  // namespace strand
