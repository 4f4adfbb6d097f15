#pragma once
// Texts from a model: prompts of any lengths are continued together, each with its keys and values in the session's
// prefix cache, until each has ended.
#include <cstdint>
#include <functional>
#include <vector>

#include "infer/sampling.h"
#include "model/session.h"

namespace strand {

struct GenerationOptions {
  SamplingOptions sampling;  ///< prompt i draws with seed + i, so that its text does not depend on its place in a batch
  int64_t max_tokens = 128;
  int32_t stop_id = -1;  ///< end of text; -1 = none
  /// Only ids below this one are drawn and allowed in prompts: the tokenizer's pieces, where the model's vocabulary is
  /// padded to more rows. 0 = the whole vocabulary.
  int64_t usable_ids = 0;
};

/// Why a text ended: it said all it may, it said the stop id, or the cache has no position for another token.
enum class Ending : uint8_t { max_tokens, stop_id, context_full };

struct Continuation {
  std::vector<int32_t> ids;  ///< what was added, the stop id not included
  Ending ending = Ending::max_tokens;
};

/// Where the time went.
struct GenerationSpeed {
  int64_t prompt_tokens = 0, new_tokens = 0;  ///< through prefill; through decode (all but each text's first)
  double prefill_seconds = 0, decode_seconds = 0;
};

/// A token of the text number `prompt` as it is chosen.
using OnToken = std::function<void(size_t prompt, int32_t id)>;

/// Continues every prompt (ids, at least one, at most as many as the cache has positions). The session is one for
/// generation; when there are more prompts than sequences in its cache, the next prompt takes the place of the first
/// text that ends.
std::vector<Continuation> generate(Session& session, const std::vector<std::vector<int32_t>>& prompts,
                                   const GenerationOptions& options, const OnToken& on_token = {},
                                   GenerationSpeed* speed = nullptr);

}  // namespace strand
