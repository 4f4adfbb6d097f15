#pragma once
// A scorer without a model: log-likelihoods that follow from the texts alone, so that accuracies can be compared to the
// last digit with another program that has the same rule.
#include <cstdlib>

#include "core/sha256.h"
#include "tasks/scorer.h"

namespace strand::test {

/// ℓ = −u / 2²⁶, u the first 32 bits of SHA-256(context, byte 1E, continuation); greedy is false.
class PseudoScorer final : public Scorer {
 public:
  std::vector<TokenScore> score(std::span<const TextRequest> requests) override {
    std::vector<TokenScore> scores;
    for (const TextRequest& r : requests) {
      const std::string digits = sha256(r.context + '\x1e' + r.continuation);
      const auto u = std::strtoul(digits.substr(0, 8).c_str(), nullptr, 16);
      scores.push_back({-static_cast<double>(u) / (1 << 26), false});
    }
    return scores;
  }
};

/// The first 32 digits of SHA-256 over all requests: context, byte 1E, continuation, byte 1D.
inline std::string prompt_hash(std::span<const TextRequest> requests) {
  std::string all;
  for (const TextRequest& r : requests) all += r.context + '\x1e' + r.continuation + '\x1d';
  return sha256(all).substr(0, 32);
}

}  // namespace strand::test
