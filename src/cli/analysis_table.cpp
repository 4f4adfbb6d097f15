#include "cli/analysis_table.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "core/number_text.h"
#include "report/table.h"

namespace strand::cli {

namespace {
using Json = nlohmann::ordered_json;

std::string number(const Json& value, int digits = 3) {
  if (!value.is_number()) return "-";
  return fixed_text(value.get<double>(), digits);
}

/// "0.412 (0.073)": a value and its floor.
std::string beside(const Json& value, const Json& floor) {
  return fmt::format("{} ({})", number(value), number(floor));
}

/// "0 -> 1"
std::string pair_name(const Json& lower, const Json& upper) {
  return fmt::format("{} -> {}", lower.get<int64_t>(), upper.get<int64_t>());
}

std::string layers_table(const Json& model) {
  TextTable table({"layer", "max violation", "cv", "dead", "token entropy", "load entropy", "top-k mass", "cos2 z",
                   "cos2 y", "repeats", "vocabulary"});
  const Json &load = model["load"], &sharp = model["sharpness"], &overlap = model["overlap"];
  const Json &repeats = model["repetition"], &words = model["vocabulary"]["input"];
  const auto squared = [&](const char* of, size_t i) -> std::string {
    if (overlap.is_null()) return "-";
    return beside(overlap[of]["mean_squared_cosine"][i], overlap[of]["random"]["mean_squared_cosine"]);
  };
  for (size_t i = 0; i < model["layers"].size(); ++i)
    table.add({model["layers"][i].dump(), beside(load["max_violation"][i], load["uniform"]["max_violation"]),
               beside(load["cv"][i], load["uniform"]["cv"]), beside(load["dead"][i], load["uniform"]["dead"]),
               beside(sharp["token_entropy"][i], sharp["uniform"]["token_entropy"]),
               beside(sharp["load_entropy"][i], sharp["uniform"]["load_entropy"]),
               beside(sharp["top_k"][i], sharp["uniform"]["top_k"]), squared("z", i), squared("y", i),
               beside(repeats["top_1"][i], repeats["top_1_shuffled"][i]),
               beside(words["weighted"][i], words["weighted_shuffled"][i])});
  return table.text();
}

std::string pairs_table(const Json& model) {
  TextTable table({"layers", "kappa", "excess", "kappa top-k", "peak", "information", "guess top-k", "input cosine"});
  const Json &pairs = model["coupling"]["pairs"], &guess = model["lookahead"], &geometry = model["geometry"];
  for (size_t i = 0; i < pairs.size(); ++i) {
    const Json &pair = pairs[i], &floor = pair["shuffled"];
    const auto of = [&](const char* name) { return beside(pair[name], floor[name]); };
    table.add({pair_name(pair["lower"], pair["upper"]), of("kappa"), of("excess"), of("kappa_top_k"), of("peak"),
               of("information"), beside(guess["top_k"][i], guess["top_k_shuffled"][i]),
               beside(geometry["input_cosine"][i], geometry["input_cosine_other_token"][i])});
  }
  return table.text();
}

std::string placement_table(const Json& model) {
  TextTable table({"ranks", "experts are placed", "local", "path", "bytes a token"});
  for (const Json& row : model["placement"]) {
    const auto add = [&](const std::string& ranks, const std::string& how, const Json& found) {
      table.add({ranks, how, beside(found["local"], row["chance"]), beside(found["path"], row["chance"]),
                 number(found["bytes_per_token"], 0)});
    };
    add(row["ranks"].dump(), "round-robin", row["round_robin"]);
    add("", "by coupling, one sweep", row["placed"]);
    add("", fmt::format("by coupling, {} up and down", row["sweeps"].get<int64_t>()), row["swept"]);
  }
  return table.text();
}

std::string clusters_table(const Json& model) {
  const Json& clusters = model["clusters"];
  TextTable table({"layers", "clusters, balanced", "unbalanced", "router", "router follows clusters of the lower"});
  for (size_t i = 0; i < clusters["pairs"].size(); ++i) {
    const Json& pair = clusters["pairs"][i];
    table.add({pair_name(pair["lower"], pair["upper"]), beside(pair["balanced"], clusters["uniform"]),
               beside(pair["unbalanced"], pair["unbalanced_shuffled"]), beside(pair["router"], clusters["uniform"]),
               beside(clusters["agreement"][i], clusters["agreement_shuffled"][i])});
  }
  return table.text();
}

std::string domains_text(const Json& model) {
  const Json& domains = model["domains"];
  std::string text = "cross-entropy by domain:";
  for (const Json& domain : domains["by_domain"])
    text += fmt::format("  {} {}", domain["name"].get<std::string>(), number(domain["ce"], 4));
  text += "\n";
  if (domains["information"].is_null()) return text;
  TextTable table({"layer", "nats of domain in a selection"});
  for (size_t i = 0; i < model["layers"].size(); ++i)
    table.add({model["layers"][i].dump(), fmt::format("{} ({})", number(domains["information"][i], 5),
                                                      number(domains["information_shuffled"][i], 5))});
  return text + table.text();
}

/// How much the top-1 of a low layer says of that of a higher one, by domain.
std::string flows_table(const Json& model) {
  const Json& flows = model["flows"];
  std::vector<std::string> head = {"domain"};
  for (size_t i = 0; i + 1 < flows["layers"].size(); ++i)
    head.push_back("layers " + pair_name(flows["layers"][i], flows["layers"][i + 1]));
  TextTable table(head);
  for (size_t d = 0; d < flows["domains"].size(); ++d) {
    std::vector<std::string> row = {model["domains"]["by_domain"][d]["name"].get<std::string>()};
    const Json& domain = flows["domains"][d];
    for (size_t i = 0; i + 1 < flows["layers"].size(); ++i)
      row.push_back(beside(domain["information"][i], domain["information_shuffled"][i]));
    table.add(row);
  }
  return table.text();
}

std::string redundancy_text(const Json& model) {
  std::string text = "loss without each token's best experts:";
  for (const Json& row : model["redundancy"])
    text += fmt::format("  {} masked {}", row["masked"].get<int64_t>(), number(row["ce"], 4));
  return text + "\n";
}

std::string model_text(const Json& model) {
  std::string text =
      fmt::format("\n{}: {} experts, {} for a token, cross-entropy {}, perplexity {}\n\n",
                  model["name"].get<std::string>(), model["experts"].get<int64_t>(), model["top_k"].get<int64_t>(),
                  number(model["terms"]["ce"], 4), number(model["perplexity"], 2));
  text += layers_table(model);
  if (!model["coupling"]["pairs"].empty()) text += "\n" + pairs_table(model);
  if (!model["placement"].empty()) text += "\n" + placement_table(model);
  if (!model["clusters"].is_null()) text += "\n" + clusters_table(model);
  text += "\n" + domains_text(model);
  if (!model["flows"].is_null())
    text += "\nwhat a token's expert says of its expert in a later layer, from 0 to 1\n" + flows_table(model);
  if (!model["redundancy"].is_null()) text += redundancy_text(model);
  return text;
}

double mean(const Json& values) {
  double sum = 0;
  for (const Json& value : values) sum += value.get<double>();
  return sum / static_cast<double>(values.size());
}

std::string stability_table(const Json& analysis) {
  TextTable table({"steps", "top-1 kept", "of top-k", "whole set", "of top-k as in the last"});
  for (size_t i = 0; i < analysis["stability"].size(); ++i) {
    const Json &row = analysis["stability"][i], &last = analysis["saturation"][i];
    const auto of = [](const Json& from, const std::string& name) {
      return beside(mean(from[name]), mean(from[name + "_shuffled"]));
    };
    table.add({pair_name(row["steps"][0], row["steps"][1]), of(row, "top_1"), of(row, "top_k"), of(row, "set"),
               of(last, "top_k")});
  }
  return table.text();
}
}  // namespace

std::string analysis_table(const nlohmann::ordered_json& analysis) {
  std::string text = fmt::format("{} tokens in sequences of {}; in brackets: the value without any structure\n",
                                 analysis["tokens"].get<int64_t>(), analysis["sequence_length"].get<int64_t>());
  for (const Json& model : analysis["models"]) text += model_text(model);
  if (!analysis["stability"].empty())
    text += "\nfrom checkpoint to checkpoint, mean of the layers\n" + stability_table(analysis);
  return text;
}

}  // namespace strand::cli
