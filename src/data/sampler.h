#pragma once
// Which tokens a training step sees: sample i of a run is a pure function of (sources, sequence length, seed, i). Ranks
// and micro-batches only decide who computes which i, so changing them, or resuming, changes nothing.
//
// Each source is cut into windows of S + 1 tokens at stride S (the last token of one is the first of the next, as the
// target of the one and the input of the other); what is left at the end is not used. Sample i finds its window so:
//
//  1. Which source. With sources k = 0, 1, ... of weights w_k, source 0 has taken c(i) = round(i · w_0 / Σw) of the
//  first
//     i samples; sample i is its own when c(i+1) > c(i), and its number there is c(i). The others share the rest,
//     i - c(i), by the same rule. So among any first n samples source k has had n · w_k / Σw of them, give or take less
//     than one for each source before it. Weights count samples, not tokens of the file, and only their ratio matters.
//  2. Which epoch. Number j of a source with W windows is in epoch j / W of that source.
//  3. Which window. A permutation of [0, W) keyed by (seed, source, epoch) at j mod W: each epoch visits each window
//     exactly once, in its own order.
#include <cstdint>
#include <memory>
#include <vector>

#include "data/token_file.h"

namespace strand {

class Sampler {
 public:
  struct Source {
    std::shared_ptr<const TokenFile> file;
    double weight = 1.0;  ///< > 0
  };

  /// Throws Error naming the file when a source has fewer than S + 1 tokens, or a weight that is not positive.
  /// Ids are checked against `vocab_size` as they are read.
  Sampler(std::vector<Source> sources, int64_t sequence_length, int64_t vocab_size, uint64_t seed);

  struct Location {
    int source;
    int64_t epoch;   ///< of that source
    int64_t window;  ///< in that source
  };
  Location locate(int64_t index) const;

  /// Sample `index` >= 0: `tokens` [S + 1]; inputs are the first S, targets the last S.
  void sample(int64_t index, int32_t* tokens) const;

  /// The same windows in file order, all sources one after another and weights ignored: for validation.
  /// 0 <= index < windows().
  void window(int64_t index, int32_t* tokens) const;

  int64_t windows() const;            ///< of all sources together
  int64_t windows(int source) const;  ///< in one epoch of it
  int sources() const { return static_cast<int>(parts_.size()); }
  const Source& source(int k) const { return parts_.at(static_cast<size_t>(k)).source; }
  int64_t sequence_length() const { return sequence_length_; }

 private:
  struct Part {
    Source source;
    int64_t windows;
    uint64_t share;  // weight over the sum of this and all later weights, as a fraction of 2^62
  };
  void read(const Part& part, int64_t window, int32_t* tokens) const;

  std::vector<Part> parts_;
  int64_t sequence_length_;
  int64_t vocab_size_;
  uint64_t seed_;
};

}  // namespace strand
