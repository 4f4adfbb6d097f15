#pragma once
// From texts to token ids, as lm-evaluation-harness does it (api/model.py and models/huggingface.py of 0.4.13).
#include <cstdint>
#include <span>
#include <vector>

#include "data/tokenizer.h"
#include "tasks/scorer.h"

namespace strand {

/// Whether a text begins with the tokenizer's BOS id.
enum class BeginText : uint8_t { with_bos, plain };

/// A request as token ids. Its log-likelihood is the sum of those of its parts: one, or the windows of a whole text.
struct EncodedRequest {
  std::vector<TokenRequest> parts;
  bool cut = false;  ///< whether the beginning of the context was dropped, because it was too long
};

class RequestEncoder {
 public:
  /// `max_length` is the number of tokens that the model reads at most. Throws Error when `begin` asks for a BOS id
  /// that the tokenizer does not have, and when it has neither BOS nor EOS. The tokenizer outlives the encoder.
  RequestEncoder(const Tokenizer& tokenizer, BeginText begin, int64_t max_length);

  /// Requests that have the same context.
  ///
  /// White space at the end of a context moves to the beginning of the continuation. The continuation's ids are what is
  /// left of those of context and continuation together, after as many as the context alone has. An empty context is
  /// the prefix token: BOS, or EOS where there is no BOS. When context and continuation have more than max_length + 1
  /// ids, the last so many are kept. Throws Error naming the request when no id is left for a continuation, or more
  /// than max_length are.
  std::vector<EncodedRequest> encode(std::span<const TextRequest> requests) const;

  /// A whole text. Each of its tokens is scored once. The first window begins with the prefix token; every later one
  /// reads max_length tokens, of which it scores those that no window before it has scored.
  EncodedRequest encode_text(const TextRequest& request) const;

 private:
  std::vector<int32_t> ids_of(std::string_view text, BeginText begin) const;
  EncodedRequest fit(TokenRequest request, const TextRequest& text) const;

  const Tokenizer& tokenizer_;
  BeginText begin_;
  size_t max_length_;
  int32_t prefix_;  ///< BOS, or EOS
};

}  // namespace strand
