#pragma once
// How sure a router is of each token, and how even over all (docs/analysis.md, "Entropy and sharpness").
#include <cstdint>
#include <span>
#include <vector>

namespace strand {

struct Sharpness {
  double token_entropy = 0;
  double load_entropy = 0;
  double information = 0;  ///< nats
  double effective_experts = 0;
  double top_1 = 0;
  double top_k = 0;
  double gap = 0;  ///< meaningless when K = E
  double confident = 0;
  double bound = 0;
  double logsumexp = 0;
};

/// Adds up one layer, token by token.
class SharpnessSum {
 public:
  SharpnessSum(int64_t experts, int64_t top_k);
  /// p [E] and the router's logits q [E] of a token.
  void add(std::span<const double> p, std::span<const double> q);
  /// The means over the tokens so far, of which there must be at least one.
  Sharpness mean() const;

 private:
  int64_t top_k_;
  int64_t tokens_ = 0;
  Sharpness sum_;
  std::vector<double> probability_;  ///< [E], summed
  std::vector<double> sorted_;       ///< of the token in progress
};

/// What a router gives that gives every expert the same probability.
Sharpness uniform_sharpness(int64_t experts, int64_t top_k);

}  // namespace strand
