#pragma once
// The choice of the next token. It is a pure function of the logits, the options, the tokens so far and the place in
// the text. Nothing is kept between calls, so a text that is continued from any place comes out the same.
//
// The filters act in the order that Hugging Face transformers uses: repetition penalty, temperature, top-k, top-p,
// min-p.
#include <cstdint>
#include <span>
#include <vector>

namespace strand {

struct SamplingOptions {
  double temperature = 1.0;  ///< logits are divided by it; 0 = greedy (the largest logit; ties: the lower id)
  int64_t top_k = 0;         ///< keep the k most likely ids; 0 = all
  double top_p = 1.0;  ///< then keep the fewest, most likely first, whose share of what is left reaches p; 1 = all
  double min_p = 0.0;  ///< then keep those at least p times as likely as the most likely one; 0 = all
  /// The logits of ids that occurred before are divided by it where they are above 0, and multiplied otherwise (Keskar
  /// 2019); 1 = off.
  double repetition_penalty = 1.0;
  uint64_t seed = 1;
};

/// Throws Error naming the option that is out of range.
void check(const SamplingOptions& options);

/// The id chosen from logits [V] for the `index`-th new token of a text whose tokens so far, prompt included, are
/// `history`. Throws Error for logits that are not finite.
int32_t sample_token(std::vector<double> logits, const SamplingOptions& options, std::span<const int32_t> history,
                     int64_t index);

}  // namespace strand
