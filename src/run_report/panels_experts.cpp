#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "run_report/analysis_json.h"
#include "run_report/heat_map.h"
#include "run_report/panels.h"
#include "run_report/text.h"

namespace strand::run_report {

namespace {
/// A series from each load table of a run.
template <typename F>
Band of_loads(const Group& group, const F& number) {
  std::vector<Series> all;
  for (const RunFiles* run : group.runs) {
    Series series;
    for (const LoadTable& table : run->loads) series.add(static_cast<double>(table.step), number(table));
    all.push_back(std::move(series));
  }
  return mean_of(all);
}

double violation(const std::vector<double>& share) {
  return *std::max_element(share.begin(), share.end()) * static_cast<double>(share.size()) - 1;
}

double greatest_violation(const LoadTable& table) {
  double most = 0;
  for (const auto& layer : table.share) most = std::max(most, violation(layer));
  return most;
}

double mean_violation(const LoadTable& table) {
  double sum = 0;
  for (const auto& layer : table.share) sum += violation(layer);
  return sum / static_cast<double>(table.share.size());
}

/// Mean over the layers of the entropy of the shares, over ln E.
double load_entropy(const LoadTable& table) {
  double sum = 0;
  for (const auto& layer : table.share)
    for (const double share : layer)
      if (share > 0) sum -= share * std::log(share) / std::log(static_cast<double>(layer.size()));
  return sum / static_cast<double>(table.share.size());
}

double idle_experts(const LoadTable& table) {
  double idle = 0;
  for (const auto& layer : table.share) idle += static_cast<double>(std::count(layer.begin(), layer.end(), 0.0));
  return idle;
}

/// Of the last load tables, a tenth of them and at most ten: one step has too few tokens for its noise.
HeatMap load_map(const Group& group, size_t& tables) {
  HeatMap map{.row_word = "layer", .column_word = "expert"};
  const RunFiles& run = *group.runs.front();
  tables = std::clamp<size_t>(run.loads.size() / 10, 1, 10);
  const auto& last = run.loads.back().share;
  map.values.assign(last.size(), std::vector<double>(last.front().size(), 0));
  for (size_t i = run.loads.size() - tables; i < run.loads.size(); ++i)
    for (size_t layer = 0; layer < last.size() && run.loads[i].share.size() == last.size(); ++layer)
      for (size_t e = 0; e < last[layer].size(); ++e)
        map.values[layer][e] +=
            run.loads[i].share[layer][e] * static_cast<double>(last[layer].size()) / static_cast<double>(tables);
  for (size_t layer = 0; layer < last.size(); ++layer)
    map.row_names.push_back(std::to_string(layer + static_cast<size_t>(run.config.model.dense_layers)));
  return map;
}
}  // namespace

void add_load(Page& page, const Groups& groups) {
  page.panel("load", "Load of the experts",
             "Tokens of an expert over the mean of its layer: 1 is even. Orange experts have more, blue ones less.");
  bool any = false;
  for (const Group& group : groups) {
    if (group.runs.front()->loads.empty()) continue;
    any = true;
    size_t tables = 0;
    HeatMap map = load_map(group, tables);
    map.title = "load over the mean of the layer at the end" + (groups.size() > 1 ? ": " + group.name : "");
    map.note = tables == 1 ? "Of the last logged step."
                           : fmt::format("Mean of the last {} logged steps{}.", tables,
                                         group.runs.size() > 1 ? " of the first run of this kind" : "");
    page.html(heat_map_html(map));
  }
  if (!any) return page.nothing("The log has no expert_load: no logged step yet, or a model without experts.");
  page.html("<div class=\"grid\">");
  Chart violations{.id = "chart-violation",
                   .title = "MaxVio of a step: greatest load over the mean, minus 1",
                   .note = "Of single steps, whose tokens are few: even routing by chance is not at 0.",
                   .from_zero = FromZero::yes};
  Chart idle{
      .id = "chart-idle", .title = "experts without a token in a logged step, all layers", .from_zero = FromZero::yes};
  for (const Group& group : groups) {
    const std::string& name = group.name;
    violations.lines.push_back(
        {"mean of the layers: " + name, group.color, Stroke::full, of_loads(group, mean_violation)});
    violations.lines.push_back(
        {"worst layer: " + name, group.color, Stroke::faint, of_loads(group, greatest_violation)});
    idle.lines.push_back({name, group.color, Stroke::full, of_loads(group, idle_experts)});
  }
  page.chart(std::move(violations));
  page.chart(std::move(idle));
  const bool biased = std::any_of(groups.begin(), groups.end(), [](const Group& group) {
    return !group.runs.front()->column("router_bias_range").empty();
  });
  if (biased)
    page.chart(
        chart_of({.id = "chart-bias",
                  .title = "range of the router's biases in a layer, the largest of the layers",
                  .note = "The biases that hold the loads even without a loss. One that grows without end does not "
                          "reach it.",
                  .column = "router_bias_range",
                  .from_zero = FromZero::yes},
                 groups));
  page.html("</div>");
}

namespace {
/// How sure the router is, layer by layer, from strand analyse.
void add_sharpness(Page& page, const Groups& groups, const Group& group) {
  const Json& sharpness = at(model_of(group), {"sharpness"});
  if (!sharpness.is_object()) return;
  const Row layers = layer_numbers(model_of(group));
  constexpr std::pair<const char*, const char*> columns[] = {{"token_entropy", "entropy of a token"},
                                                             {"load_entropy", "entropy over all"},
                                                             {"top_k", "mass of the top K"},
                                                             {"effective_experts", "effective experts"},
                                                             {"gap", "gap after the top K"}};
  std::vector<Row> rows = {{"layer"}};
  for (const std::string& layer : layers) rows.push_back({layer});
  rows.push_back({"uniform"});
  for (const auto& [key, name] : columns) {
    rows[0].push_back(name);
    const auto values = numbers(at(sharpness, {key}));
    for (size_t i = 0; i < layers.size(); ++i) rows[i + 1].push_back(i < values.size() ? number_text(values[i]) : "–");
    rows.back().push_back(number_text(number(at(sharpness, {"uniform", key}))));
  }
  page.html("<p>From strand analyse" + escaped(of_group(groups, group)) + "</p>");
  page.table(rows);
}
}  // namespace

void add_router(Page& page, const Groups& groups) {
  page.panel("router", "Router", "A good router is sure of each token, and even over all of them.");
  const RunFiles& first = *groups.front().runs.front();
  const auto layers = static_cast<double>(first.moe_layers());
  const double uniform = std::log(static_cast<double>(first.config.moe.num_experts));
  if (layers <= 0) return page.nothing("The model has no experts.");
  page.html("<div class=\"grid\">");
  page.chart(chart_of({.id = "chart-entropy",
                       .title = "entropy of a token's routing, over ln E",
                       .note = "Mean over tokens and layers; 1 = no preference, 0 = certain.",
                       .column = "entropy",
                       .scale = uniform > 0 ? 1 / (layers * uniform) : 1,
                       .smoothing = 0.02},
                      groups));
  Chart loads{.id = "chart-load-entropy",
              .title = "entropy of the load of the experts, over ln E",
              .note = "Of logged steps, mean of the layers; 1 = even."};
  for (const Group& group : groups)
    loads.lines.push_back({group.name, group.color, Stroke::full, of_loads(group, load_entropy)});
  page.chart(std::move(loads));
  page.chart(chart_of({.id = "chart-logits",
                       .title = "size of the router's logits: root mean square of log-sum-exp",
                       .note = "ln E for logits that are all 0.",
                       .column = "z",
                       .scale = 1 / layers,
                       .change = [](double z) { return std::sqrt(std::max(0.0, z)); },
                       .smoothing = 0.02},
                      groups));
  page.html("</div>");
  for (const Group& group : groups) add_sharpness(page, groups, group);
}

}  // namespace strand::run_report
