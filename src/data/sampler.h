#pragma once
// Which tokens a training step sees. Sample i of a run is a pure function of (sources, sequence length, seed, i). Ranks
// and micro-batches only decide who computes which i, so to change them, or to resume a run, does not change a sample.
//
// Each source is cut into windows of S + 1 tokens, S tokens apart: the last token of a window is the first of the next
// one. What is left at the end of a source is not used. Sample i finds its window in three steps:
//
//  1. The source. The sources k = 0, 1, ... have weights w_k. Of the first i samples, source 0 has had
//     c(i) = round(i · w_0 / Σw). Sample i belongs to source 0 when c(i+1) > c(i), and has the number c(i) there. The
//     other sources share the other samples, which are i - c(i) so far, by the same rule. So among any first n samples
//     source k has had n · w_k / Σw of them; the error is less than one for each source before it. Weights count
//     samples and not tokens of the file, and only their ratios matter.
//  2. The epoch. Sample number j of a source with W windows is in epoch j / W of that source.
//  3. The window. It is element j mod W of a permutation of [0, W) with the key (seed, source, epoch). So each epoch
//     visits each window exactly once, in an order of its own.
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

  /// Writes sample `index` >= 0 to `tokens` [S + 1]. The inputs are the first S of them, the targets the last S.
  void sample(int64_t index, int32_t* tokens) const;

  /// For validation: window `index` of all sources one after the other, in the order of the files, whatever the
  /// weights. 0 <= index < windows().
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
