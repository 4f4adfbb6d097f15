#pragma once
// analysis.json as tables for people.
#include <nlohmann/json.hpp>
#include <string>

namespace strand::cli {

/// The main numbers of an analysis (docs/analysis.md, "analysis.json"), each beside its floor.
std::string analysis_table(const nlohmann::ordered_json& analysis);

}  // namespace strand::cli
