#include "analysis/uniform_routing.h"

#include <numeric>
#include <utility>

#include "core/random.h"

namespace strand {

Trace uniform_routing(int64_t tokens, int64_t layers, int64_t experts, int64_t top_k, uint64_t key) {
  Trace trace;
  trace.sequence_length = 1;
  trace.num_experts = experts;
  trace.top_k = top_k;
  trace.layers.resize(static_cast<size_t>(layers));
  std::iota(trace.layers.begin(), trace.layers.end(), 0);
  trace.domains = {{"uniform", tokens}};
  trace.tokens.resize(static_cast<size_t>(tokens));
  trace.next = trace.predicted = trace.tokens;
  trace.experts.resize(static_cast<size_t>(tokens * layers * top_k));
  // The first K steps of a shuffle draw K different experts. What earlier draws left in `deck` does not matter, because
  // any order of it is as good as any other.
  std::vector<uint16_t> deck(static_cast<size_t>(experts));
  std::iota(deck.begin(), deck.end(), uint16_t{0});
  for (size_t i = 0; i < trace.experts.size(); ++i) {
    const auto place = static_cast<int64_t>(i) % top_k;
    const auto left = static_cast<double>(experts - place);
    const auto drawn = static_cast<size_t>(place + static_cast<int64_t>(random_uniform(key, i) * left));
    std::swap(deck[static_cast<size_t>(place)], deck[drawn]);
    trace.experts[i] = deck[static_cast<size_t>(place)];
  }
  return trace;
}

void for_each_uniform_draw(int64_t tokens, int64_t layers, int64_t experts, int64_t top_k,
                           const std::function<void(const Trace&)>& add) {
  for (int draw = 0; draw < uniform_draws; ++draw)
    add(uniform_routing(tokens, layers, experts, top_k, hash_key(static_cast<uint64_t>(draw), "uniform routing")));
}

double choose(int64_t n, int64_t k) {
  if (k < 0 || k > n) return 0;
  double value = 1;
  for (int64_t i = 1; i <= k; ++i) value = value * static_cast<double>(n - k + i) / static_cast<double>(i);
  return value;
}

}  // namespace strand
