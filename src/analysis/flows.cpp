#include "analysis/flows.h"

#include <algorithm>

#include "analysis/coupling.h"
#include "core/random.h"

namespace strand {

namespace {
/// The tokens [first, first + count) of a layer.
Selections part_of(const Trace& trace, int64_t layer, int64_t first, int64_t count) {
  const int64_t stride = trace.layer_count() * trace.top_k;
  return {trace.experts.data() + first * stride + layer * trace.top_k, stride, count, trace.num_experts, trace.top_k};
}
}  // namespace

std::vector<int64_t> flow_layers(const Trace& trace) {
  std::vector<int64_t> layers = {0, trace.layer_count() / 2, trace.layer_count() - 1};
  layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
  return layers;
}

std::vector<std::vector<Flow>> token_flows(const Trace& trace) {
  const std::vector<int64_t> layers = flow_layers(trace);
  std::vector<std::vector<Flow>> flows;
  int64_t first = 0;
  for (const TraceDomain& domain : trace.domains) {
    const int64_t count = domain.sequences * trace.sequence_length;
    const std::vector<int32_t> order = shuffled_order(count, hash_key(0, "tokens of a flow's floor"));
    flows.emplace_back();
    for (size_t i = 0; i + 1 < layers.size(); ++i) {
      const Selections below = part_of(trace, layers[i], first, count),
                       above = part_of(trace, layers[i + 1], first, count);
      CountMatrix counts = top_1_joint_counts(below, above);
      const double information = normalized_information(counts);
      const double shuffled = normalized_information(top_1_joint_counts(below, above.in_order(order)));
      flows.back().push_back({std::move(counts), information, shuffled});
    }
    first += count;
  }
  return flows;
}

}  // namespace strand
