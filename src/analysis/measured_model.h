#pragma once
// All that was measured of one model, and its part of analysis.json (docs/analysis.md, "analysis.json").
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "analysis/collector.h"

namespace strand {

/// The loss of a model whose tokens may not use their best experts.
struct MaskedLoss {
  int64_t masked = 0;
  double ce = 0;
};

struct MeasuredModel {
  std::string name, path;
  std::string trace_file;  ///< its name, beside analysis.json
  Trace trace;
  Collected collected;  ///< its experts and predictions have moved into the trace
  int64_t hidden_size = 0, expert_ffn = 0;
  int64_t activation_bytes = 0;                       ///< of an element that travels between ranks
  std::map<std::string, double> losses;               ///< weights of terms in training, by key
  std::vector<std::pair<std::string, double>> terms;  ///< unweighted, over all tokens, in the order of the table
  std::vector<double> domain_ce;                      ///< one a domain
  std::vector<MaskedLoss> redundancy;                 ///< empty: not asked for
  std::function<std::string(int32_t)> piece;          ///< of a token id; none: the model has no tokenizer

  double term(const std::string& name) const;
};

nlohmann::ordered_json model_json(const MeasuredModel& model);

/// Adds "stability" and "saturation" of the checkpoints of each run. `runs` has, for each run, the places of its
/// checkpoints in `traces` (which are those of the models of the analysis), in order of their steps.
void add_stability(nlohmann::ordered_json& analysis, const std::vector<Trace>& traces,
                   const std::vector<std::vector<size_t>>& runs);

}  // namespace strand
