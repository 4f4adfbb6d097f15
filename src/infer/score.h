#pragma once
// How likely a model finds given continuations of given contexts. Continuations of the same context share its keys and
// values: the context is computed once, together with the longest of its continuations.
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/session.h"

namespace strand {

/// Both have at least one id. The first token of a sequence has nothing before it that could predict it, so a context
/// is never empty.
struct TokenRequest {
  std::vector<int32_t> context;
  std::vector<int32_t> continuation;

  /// Tokens that the model reads: all but the last, which is only predicted.
  size_t inputs() const { return context.size() + continuation.size() - 1; }
};

struct TokenScore {
  double log_likelihood = 0;  ///< Σ ln p(token | all tokens before it) over the continuation; in double precision
  bool greedy = false;        ///< whether each of its tokens is the most likely one in its place (ties: the lowest id)
};

/// Whether requests with equal contexts share the computation of it. `apart` is there to check the other.
enum class Contexts : uint8_t { shared, apart };

/// How far scoring is.
struct ScoringProgress {
  size_t requests = 0, all_requests = 0;  ///< done, in all
  int64_t tokens = 0, all_tokens = 0;     ///< computed (without padding), in all; a shared context counts once
};

struct ScoringOptions {
  Contexts contexts = Contexts::shared;
  std::function<void(const ScoringProgress&)> on_progress;  ///< called after each pass
};

/// The shape of a session in which these requests can be scored: as long as the longest, and with as many sequences in
/// the cache as `tokens` positions make, at least one. Without a request it is the smallest there is.
SessionShape scoring_shape(std::span<const TokenRequest> requests, int64_t tokens);

/// The score of each request, in their order. The session is one for scoring. Throws Error for a request that is longer
/// than the cache, for an id outside the vocabulary, and for logits that are not finite.
std::vector<TokenScore> score(Session& session, std::span<const TokenRequest> requests,
                              const ScoringOptions& options = {});

}  // namespace strand
