#pragma once
// Who says how likely texts are: a model, or a test's stand-in.
#include <span>
#include <string>
#include <vector>

#include "infer/score.h"

namespace strand {

enum class Likelihood : uint8_t {
  of_continuation,  ///< given the context
  of_text,          ///< of a whole text, window by window (rolling); the context is empty
};

struct TextRequest {
  std::string context;
  std::string continuation;  ///< of_text: the text
  Likelihood likelihood = Likelihood::of_continuation;
  std::string name;  ///< for messages: "data/piqa.jsonl: line 7, choice 2"
};

class Scorer {
 public:
  virtual ~Scorer() = default;
  /// The score of each request, in their order; `greedy` of a whole text is false. Requests with the same context stand
  /// one after the other. Throws Error.
  virtual std::vector<TokenScore> score(std::span<const TextRequest> requests) = 0;
};

}  // namespace strand
