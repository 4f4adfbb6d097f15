#pragma once
// How tokens go through the model: from the top-1 of a low layer to that of a middle and of a high one, by domain
// (docs/analysis.md, "Flow of tokens"; the flow diagrams of OLMoE, arXiv 2409.02060, are these).
#include "analysis/count_matrix.h"

namespace strand {

/// From one layer to a later one, over the tokens of one domain.
struct Flow {
  CountMatrix counts;      ///< [E, E]: how many tokens have e as their top-1 below and ν above
  double information = 0;  ///< mutual information over the smaller of both entropies, 0 to 1
  double shuffled = 0;     ///< the same after the tokens above were permuted
};

/// The layers of a trace between which tokens flow: the first, the middle and the last, each once.
std::vector<int64_t> flow_layers(const Trace& trace);

/// [domains][flow_layers − 1]. The trace has two layers or more.
std::vector<std::vector<Flow>> token_flows(const Trace& trace);

}  // namespace strand
