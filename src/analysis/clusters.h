#pragma once
// Whether clusters of tokens in neighbouring layers are the same, and whether the router follows them
// (docs/analysis.md, "Clusters of tokens"; Fig. 7 of arXiv 2602.14159).
#include "analysis/coupling.h"
#include "analysis/kmeans.h"

namespace strand {

/// The clusters of one layer's tokens.
struct LayerClusters {
  std::vector<uint16_t> balanced, unbalanced;  ///< [N]
};
/// Makes E clusters of the router's inputs of N tokens. E divides N.
LayerClusters cluster_tokens(const Points& inputs, int64_t experts, uint64_t seed);

/// The clusters, seen as a routing with one expert for each token. `clusters` outlives it.
Selections as_selections(const std::vector<uint16_t>& clusters, int64_t experts);

}  // namespace strand
