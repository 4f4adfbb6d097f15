#include "analysis/clusters.h"

namespace strand {

LayerClusters cluster_tokens(const Points& inputs, int64_t experts, uint64_t seed) {
  const Clustering found = k_means(inputs, experts, {.seed = seed});
  const std::vector<int32_t> balanced = balanced_clusters(inputs, found.centres);
  return {{balanced.begin(), balanced.end()}, {found.cluster_of.begin(), found.cluster_of.end()}};
}

Selections as_selections(const std::vector<uint16_t>& clusters, int64_t experts) {
  return {clusters.data(), 1, static_cast<int64_t>(clusters.size()), experts, 1};
}

}  // namespace strand
