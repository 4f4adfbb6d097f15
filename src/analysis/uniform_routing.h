#pragma once
// Routing without any structure: what every count of a real model stands beside (docs/analysis.md, "Floors and
// baselines").
#include <functional>

#include "analysis/trace.h"

namespace strand {

/// A trace of `layers` layers in which every token draws K different experts of each layer, all equally likely and
/// independently: a function of the sizes and of `key`. It has no domains and no token ids but zeros.
Trace uniform_routing(int64_t tokens, int64_t layers, int64_t experts, int64_t top_k, uint64_t key);

inline constexpr int uniform_draws = 4;
/// Calls `add` with `uniform_draws` such traces, one after the other.
void for_each_uniform_draw(int64_t tokens, int64_t layers, int64_t experts, int64_t top_k,
                           const std::function<void(const Trace&)>& add);

/// The binomial coefficient "n choose k" as a real; 0 for k > n.
double choose(int64_t n, int64_t k);

}  // namespace strand
