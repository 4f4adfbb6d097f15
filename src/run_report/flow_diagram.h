#pragma once
// A diagram of flows (Sankey): a column of experts for each layer, and between two columns a ribbon for each pair of
// experts, as thick as tokens are many.
#include <string>
#include <vector>

namespace strand::run_report {

struct FlowDiagram {
  std::string title;
  std::vector<std::string> layers;                       ///< names of the columns
  std::vector<std::vector<std::vector<double>>> counts;  ///< [columns − 1][below][above]
};

/// Nothing when the counts are not square tables that fit each other, or have no token; a sentence when an expert of
/// more than `most_experts` could not be seen. A ribbon has colour where it has more than twice the tokens that both
/// of its experts would share by chance; ribbons of too few tokens to be seen are left out.
std::string flow_diagram_html(const FlowDiagram& diagram, size_t most_experts);

}  // namespace strand::run_report
