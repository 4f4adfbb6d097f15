#pragma once
// The parts of analysis.json that are counted from a trace, each with its floors. "Layer" is a layer of the trace.
#include <functional>
#include <string>

#include "analysis/collector.h"
#include "analysis/json_numbers.h"

namespace strand {

/// A fixed order in which tokens are taken for the shuffled floors.
std::vector<int32_t> floor_order(int64_t tokens);

Json load_json(const Trace& trace);
Json coupling_json(const Trace& trace);
/// Gives null when K = 1.
Json coactivation_json(const Trace& trace);
Json repetition_json(const Trace& trace);
/// `ce` has the cross-entropy of each domain.
Json domains_json(const Trace& trace, const std::vector<double>& ce);
/// `piece` spells a token id, or is none.
Json vocabulary_json(const Trace& trace, const std::function<std::string(int32_t)>& piece);
/// Gives null with one layer.
Json flows_json(const Trace& trace);
Json lookahead_json(const Trace& trace, const Collected& collected);
/// Gives an empty list with fewer than two sequences. `row_bytes` is the size of a token's row that travels.
Json placement_json(const Trace& trace, int64_t row_bytes);
/// Gives null when no tokens were clustered.
Json clusters_json(const Trace& trace, const Collected& collected);

}  // namespace strand
