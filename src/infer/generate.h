#pragma once
// Generation of text. Prompts of any lengths are continued together until each text has ended. The keys and values of
// each text are in the session's prefix cache.
#include <cstdint>
#include <functional>
#include <vector>

#include "infer/sampling.h"
#include "model/session.h"

namespace strand {

struct GenerationOptions {
  SamplingOptions sampling;  ///< prompt i draws with seed + i, so that a text does not depend on its batch
  int64_t max_tokens = 128;
  std::vector<int32_t> stop_ids;  ///< each ends a text
  bool log_probs = false;         ///< results have the log-probabilities of their tokens
  /// Only ids below this one are drawn, and allowed in prompts. Where the model's vocabulary has more rows than the
  /// tokenizer has pieces, it is the number of pieces. 0 = the whole vocabulary.
  int64_t usable_ids = 0;
};

/// Why a text ended: it has as many tokens as it may have, a stop id was drawn, the caller ended it (OnToken), or the
/// cache has no position left.
enum class Ending : uint8_t { max_tokens, stop_id, caller, context_full };

struct Continuation {
  std::vector<int32_t> ids;  ///< the new tokens, without the stop id
  /// The logarithm of the probability that the model gave to each of them: over its whole vocabulary, before
  /// temperature and filters. Empty unless they were asked for.
  std::vector<double> log_probs;
  Ending ending = Ending::max_tokens;
  int32_t stop_id = -1;  ///< the id that ended the text; -1 = none did
};

/// How many tokens were computed, and how long it took.
struct GenerationSpeed {
  int64_t prompt_tokens = 0, new_tokens = 0;  ///< of prompts; drawn after the first token of a text
  double prefill_seconds = 0, decode_seconds = 0;
};

/// Called with each token as it is chosen. `prompt` is the number of its text. It says whether the text ends with this
/// token.
enum class AfterToken : uint8_t { go_on, end_text };
using OnToken = std::function<AfterToken(size_t prompt, int32_t id)>;

/// Continues every prompt. A prompt has at least one id, and at most as many as the cache has positions. The session is
/// one for generation. When there are more prompts than sequences in its cache, the next prompt takes the place of the
/// first text that ends.
std::vector<Continuation> generate(Session& session, const std::vector<std::vector<int32_t>>& prompts,
                                   const GenerationOptions& options, const OnToken& on_token = {},
                                   GenerationSpeed* speed = nullptr);

}  // namespace strand
