#pragma once
// Makes traces by hand.
#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>
#include <vector>

#include "analysis/trace.h"
#include "core/random.h"

namespace strand::test {

using Experts = std::vector<uint16_t>;

/// T tokens, as one domain of sequences of `length`; `chosen(t, layer)` gives the K experts.
inline Trace make_trace(int64_t tokens, int64_t layers, int64_t experts, int64_t length,
                        const std::function<Experts(int64_t t, int64_t layer)>& chosen) {
  Trace trace;
  trace.model = "by hand";
  trace.sequence_length = length;
  trace.num_experts = experts;
  trace.top_k = static_cast<int64_t>(chosen(0, 0).size());
  trace.layers.resize(static_cast<size_t>(layers));
  std::iota(trace.layers.begin(), trace.layers.end(), 0);
  trace.domains = {{"text", tokens / length}};
  trace.tokens.resize(static_cast<size_t>(tokens));
  trace.next = trace.predicted = trace.tokens;
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t layer = 0; layer < layers; ++layer)
      for (const uint16_t e : chosen(t, layer)) trace.experts.push_back(e);
  return trace;
}

/// K different experts, a function of (t, layer, seed), with low ones more likely than high ones.
inline Experts uneven_choice(int64_t t, int64_t layer, int64_t experts, int64_t top_k, uint64_t seed) {
  std::vector<std::pair<double, uint16_t>> scores;
  for (int64_t e = 0; e < experts; ++e) {
    const auto index = static_cast<uint64_t>((t * 64 + layer) * experts + e);
    scores.emplace_back(random_uniform(seed, index) - 0.05 * static_cast<double>(e), static_cast<uint16_t>(e));
  }
  std::sort(scores.rbegin(), scores.rend());
  Experts chosen;
  for (int64_t k = 0; k < top_k; ++k) chosen.push_back(scores[static_cast<size_t>(k)].second);
  return chosen;
}

inline Trace uneven_trace(int64_t tokens, int64_t layers, int64_t experts, int64_t top_k, int64_t length,
                          uint64_t seed) {
  return make_trace(tokens, layers, experts, length,
                    [&](int64_t t, int64_t layer) { return uneven_choice(t, layer, experts, top_k, seed); });
}

}  // namespace strand::test
