#include <fmt/core.h>

#include <algorithm>
#include <cmath>

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
  page.html("</div>");
}

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
  page.chart(chart_of({.id = "chart-logits",
                       .title = "size of the router's logits: root mean square of log-sum-exp",
                       .note = "ln E for logits that are all 0.",
                       .column = "z",
                       .scale = 1 / layers,
                       .change = [](double z) { return std::sqrt(std::max(0.0, z)); },
                       .smoothing = 0.02},
                      groups));
  page.html("</div>");
}

}  // namespace strand::run_report
