#pragma once
// Text from a model: sampling one token after another.
#include <cstdint>
#include <functional>
#include <vector>

#include "model/session.h"

namespace strand {

struct SamplingOptions {
  int64_t max_tokens = 128;
  double temperature = 1.0;  ///< 0 = greedy (the largest logit; ties: the lower id)
  int64_t top_k = 0;         ///< keep the k most likely ids; 0 = all
  double top_p = 1.0;        ///< then keep the fewest of them whose probabilities reach p
  uint64_t seed = 1;
  int32_t stop_id = -1;  ///< end of text; -1 = none
};

/// The id chosen from logits [V] for the `index`-th token of a text: a pure function of its arguments.
int32_t sample_token(const std::vector<double>& logits, const SamplingOptions& options, int64_t index);

/// Continues `prompt` (ids, at least one) and returns what was added, the stop id not included. `on_token` sees each id
/// as it is chosen. The model sees at most the last `context` tokens, the session's longest sequence.
std::vector<int32_t> generate(Session& session, const std::vector<int32_t>& prompt, int64_t context,
                              const SamplingOptions& options, const std::function<void(int32_t)>& on_token = {});

}  // namespace strand
