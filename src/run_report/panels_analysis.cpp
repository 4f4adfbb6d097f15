#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "run_report/analysis_json.h"
#include "run_report/flow_diagram.h"
#include "run_report/heat_map.h"
#include "run_report/panels.h"
#include "run_report/text.h"

namespace strand::run_report {

namespace {
constexpr const char* analysis_format = "strand-analysis-1";
constexpr const char* make_analysis = "Not analysed. To make it: strand analyse RUN --data NAME=PREFIX";

Row expert_numbers(size_t n) {
  Row names;
  for (size_t i = 0; i < n; ++i) names.push_back(std::to_string(i));
  return names;
}

bool analysed(const Groups& groups) {
  return std::any_of(groups.begin(), groups.end(), [](const Group& group) { return !model_of(group).is_null(); });
}

// ---- specialization -----------------------------------------------------------------------------------------------

void add_overlap(Page& page, const Groups& groups, const Group& group) {
  const Json& model = model_of(group);
  const Json& overlap = at(model, {"overlap"});
  if (overlap.is_null()) return;
  const Row layers = layer_numbers(model);
  std::vector<Row> rows = {{"layer", "inner activations z", "outputs y"}};
  const auto z = numbers(at(overlap, {"z", "mean_squared_cosine"})),
             y = numbers(at(overlap, {"y", "mean_squared_cosine"}));
  for (size_t i = 0; i < layers.size() && i < z.size() && i < y.size(); ++i)
    rows.push_back({layers[i], number_text(z[i]), number_text(y[i])});
  rows.push_back({"random directions", number_text(number(at(overlap, {"z", "random", "mean_squared_cosine"}))),
                  number_text(number(at(overlap, {"y", "random", "mean_squared_cosine"})))});
  page.html("<p>Mean squared cosine of a token's experts, from strand analyse" + escaped(of_group(groups, group)) +
            "</p>");
  page.table(rows);
  const Json& pairs = at(overlap, {"y", "pairs"});
  if (!pairs.is_array() || pairs.empty()) return;
  const size_t middle = pairs.size() / 2;
  HeatMap map{.title = fmt::format("squared cosine of outputs, layer {}{}",
                                   middle < layers.size() ? layers[middle] : "", of_group(groups, group)),
              .note = "Grey: fewer than 20 tokens use both.",
              .row_word = "expert",
              .column_word = "expert",
              .values = matrix(pairs[middle])};
  map.row_names = expert_numbers(map.values.size());
  double most = 0;
  for (const auto& row : map.values)
    for (const double value : row) most = std::isfinite(value) ? std::max(most, value) : most;
  map.full = most > 0 ? most : 1;
  page.html(heat_map_html(map));
}

// ---- coupling -----------------------------------------------------------------------------------------------------

HeatMap coupling_map(const Json& pair, double top_k) {
  HeatMap map{.row_word = "expert below", .column_word = "expert above, in the order that matches best", .full = 1};
  const auto conditional = matrix(at(pair, {"conditional"}));
  std::vector<double> order = numbers(at(pair, {"matched"}));
  for (const auto& row : conditional) {
    std::vector<double> out;
    for (size_t j = 0; j < row.size(); ++j) {
      const double column = j < order.size() ? order[j] : static_cast<double>(j);
      const bool valid = column >= 0 && column < static_cast<double>(row.size());
      out.push_back(valid ? row[static_cast<size_t>(column)] : std::numeric_limits<double>::quiet_NaN());
    }
    map.values.push_back(std::move(out));
  }
  map.row_names = expert_numbers(map.values.size());
  map.note = fmt::format("How often the upper expert is active when the lower one is. By chance {}.",
                         map.values.empty() ? "–" : number_text(top_k / static_cast<double>(map.values.size()), 3));
  return map;
}

void add_kappa(Page& page, const Groups& groups, const Group& group) {
  const Json& pairs = at(model_of(group), {"coupling", "pairs"});
  if (!pairs.is_array() || pairs.empty()) return;
  std::vector<Row> rows = {{"layers", "κ", "shuffled", "excess", "information", "shuffled"}};
  Bars bars{.title = "κ: share of tokens that follow the best one-to-one map" + of_group(groups, group),
            .note = "Dashed: the mean of the shuffled floors."};
  std::vector<double> floors;
  for (const Json& pair : pairs) {
    const std::string name = fmt::format("{:.0f} to {:.0f}", number(at(pair, {"lower"})), number(at(pair, {"upper"})));
    const double kappa = number(at(pair, {"kappa"})), floor = number(at(pair, {"shuffled", "kappa"}));
    rows.push_back({name, number_text(kappa), number_text(floor), number_text(number(at(pair, {"excess"}))),
                    number_text(number(at(pair, {"information"}))),
                    number_text(number(at(pair, {"shuffled", "information"})))});
    if (!std::isfinite(kappa)) continue;
    bars.names.push_back("layers " + name);
    bars.values.push_back(kappa);
    if (std::isfinite(floor)) floors.push_back(floor);
  }
  bars.reference = floors.empty() ? 0 : mean(floors);
  page.html(bars_html(bars));
  page.table(rows);
  const double top_k = number(at(model_of(group), {"top_k"}));
  std::vector<size_t> shown = {0, pairs.size() / 2, pairs.size() - 1};
  shown.erase(std::unique(shown.begin(), shown.end()), shown.end());
  page.html("<div class=\"grid\">");
  for (const size_t i : shown) {
    HeatMap map = coupling_map(pairs[i], top_k);
    map.title = "coupling, layers " + rows[i + 1][0] + of_group(groups, group);
    page.html(heat_map_html(map));
  }
  page.html("</div>");
}

// ---- domains ------------------------------------------------------------------------------------------------------

void add_domain_map(Page& page, const Groups& groups, const Group& group) {
  const Json& domains = at(model_of(group), {"domains"});
  const Json& shares = at(domains, {"share"});
  const double chance = number(at(domains, {"chance"}));
  if (!shares.is_array() || shares.empty() || !(chance > 0)) return;
  const Row names = domain_names(group, shares.size());
  const size_t layers = shares.front().is_array() ? shares.front().size() : 0;
  const Row numbers_of_layers = layer_numbers(model_of(group));
  std::vector<size_t> shown = {0, layers / 2, layers - 1};
  shown.erase(std::unique(shown.begin(), shown.end()), shown.end());
  for (const size_t layer : shown) {
    if (layer >= layers) continue;
    HeatMap map{
        .title = fmt::format("use of experts by domain, over chance, layer {}{}",
                             layer < numbers_of_layers.size() ? numbers_of_layers[layer] : "", of_group(groups, group)),
        .row_word = "domain",
        .column_word = "expert",
        .row_names = names};
    for (const Json& domain : shares) {
      std::vector<double> row =
          domain.is_array() && layer < domain.size() ? numbers(domain[layer]) : std::vector<double>();
      for (double& value : row) value /= chance;
      if (!map.values.empty() && row.size() != map.values.front().size()) return;
      map.values.push_back(std::move(row));
    }
    page.html(heat_map_html(map));
  }
}

/// Beyond `most` experts of a layer, flows cannot be told apart.
void add_flows(Page& page, const Groups& groups, const Group& group) {
  constexpr size_t most = 64;
  const Json& flows = at(model_of(group), {"flows"});
  const Json& domains = at(flows, {"domains"});
  const Row layers = layer_numbers(flows);
  if (!domains.is_array() || domains.empty() || layers.size() < 2) return;
  const Row names = domain_names(group, domains.size());
  std::vector<Row> rows = {{"domain"}};
  for (size_t i = 0; i + 1 < layers.size(); ++i)
    for (const char* what : {"layers {} to {}", "shuffled"})
      rows[0].push_back(fmt::format(fmt::runtime(what), layers[i], layers[i + 1]));
  std::string figures;
  for (size_t d = 0; d < domains.size(); ++d) {
    FlowDiagram diagram{.title = "flow of tokens, " + names[d] + of_group(groups, group), .layers = layers};
    rows.push_back({escaped(names[d])});
    const auto real = numbers(at(domains[d], {"information"})),
               shuffled = numbers(at(domains[d], {"information_shuffled"}));
    const Json& counts = at(domains[d], {"counts"});
    for (size_t i = 0; i + 1 < layers.size(); ++i) {
      rows.back().push_back(i < real.size() ? number_text(real[i]) : "–");
      rows.back().push_back(i < shuffled.size() ? number_text(shuffled[i]) : "–");
      if (counts.is_array() && i < counts.size()) diagram.counts.push_back(matrix(counts[i]));
    }
    figures += flow_diagram_html(diagram, most);
  }
  page.html("<p>How much a token's expert in one layer says of that in a later one (0 nothing, 1 all)" +
            escaped(of_group(groups, group)) + "</p>");
  page.table(rows);
  page.html("<div class=\"grid\">" + figures + "</div>");
}

void add_token_lists(Page& page, const Groups& groups, const Group& group) {
  const Json& lists = at(model_of(group), {"vocabulary", "token_lists"});
  if (!lists.is_array()) return;
  constexpr size_t shown = 8;
  for (const Json& list : lists) {
    std::vector<Row> rows = {{"expert", "tokens whose most frequent expert it is (share of their occurrences)"}};
    const Json& experts = at(list, {"experts"});
    if (!experts.is_array()) continue;
    for (size_t e = 0; e < experts.size(); ++e) {
      std::string text;
      for (size_t i = 0; experts[e].is_array() && i < experts[e].size() && i < shown; ++i) {
        const Json& token = experts[e][i];
        const Json& piece = at(token, {"piece"});
        text += fmt::format("{}<code>{}</code> {}", i > 0 ? ", " : "",
                            escaped(piece.is_string() ? piece.get<std::string>() : "–"),
                            share_text(number(at(token, {"share"}))));
      }
      rows.push_back({std::to_string(e), text.empty() ? "–" : text});
    }
    page.html(fmt::format("<details><summary>Token lists, layer {}{}</summary>",
                          number_text(number(at(list, {"layer"})), 1), escaped(of_group(groups, group))));
    page.table(rows);
    page.html("</details>");
  }
}

bool check_format(Page& page, const Groups& groups) {
  for (const Group& group : groups) {
    const Json& analysis = group.runs.front()->analysis;
    if (analysis.is_null() || at(analysis, {"format"}) == analysis_format) continue;
    page.nothing(fmt::format("{}/analysis/analysis.json is not of the format {}: analyse the run again.",
                             group.runs.front()->directory, analysis_format));
    return false;
  }
  return true;
}
}  // namespace

void add_specialization(Page& page, const Groups& groups) {
  page.panel("specialization", "Specialization",
             "Squared cosine between the experts of one token: 0 is orthogonal, 1 is the same direction.");
  const Config& config = groups.front().runs.front()->config;
  const auto k = static_cast<double>(config.moe.top_k),
             layers = static_cast<double>(groups.front().runs.front()->moe_layers());
  if (k < 2 || layers <= 0) return page.nothing("With one expert for a token there are no pairs.");
  page.chart(chart_of({.id = "chart-overlap",
                       .title = "mean squared cosine of inner activations (sp over L K (K−1))",
                       .column = "sp",
                       .scale = 1 / (layers * k * (k - 1)),
                       .smoothing = 0.02,
                       .from_zero = FromZero::yes},
                      groups));
  if (!check_format(page, groups)) return;
  if (!analysed(groups))
    return page.nothing(std::string(make_analysis) + ", which adds outputs, layers and pairs of experts.");
  for (const Group& group : groups) add_overlap(page, groups, group);
}

void add_coupling(Page& page, const Groups& groups) {
  page.panel("coupling", "Coupling of layers",
             "Whether tokens that share an expert in one layer share one in the next.");
  const auto pairs = static_cast<double>(groups.front().runs.front()->moe_layers() - 1);
  if (pairs < 1) return page.nothing("There are no two neighbouring layers with experts.");
  page.chart(chart_of({.id = "chart-coupling",
                       .title = "−cp over the pairs of layers",
                       .note = "cp is measured whether or not it has a weight.",
                       .column = "cp",
                       .scale = -1 / pairs,
                       .smoothing = 0.02,
                       .from_zero = FromZero::yes},
                      groups));
  if (!check_format(page, groups)) return;
  if (!analysed(groups))
    return page.nothing(std::string(make_analysis) + ", which adds κ and maps of pairs of layers.");
  for (const Group& group : groups) add_kappa(page, groups, group);
}

void add_stability(Page& page, const Groups& groups) {
  page.panel(
      "stability", "Stability of the routing",
      "Tokens that keep their first expert from one checkpoint to the next. It rises as the learning rate falls.");
  if (!check_format(page, groups)) return;
  std::vector<Row> rows = {{"kind", "steps", "same first expert", "shuffled", "of its top K", "shuffled"}};
  Chart chart{.id = "chart-stability", .title = "share of tokens with the same top-1, mean of the layers"};
  for (const Group& group : groups) {
    Series series;
    const Json& stability = at(group.runs.front()->analysis, {"stability"});
    if (!stability.is_array()) continue;
    for (const Json& entry : stability) {
      const auto steps = numbers(at(entry, {"steps"})), top = numbers(at(entry, {"top_1"}));
      if (steps.size() != 2 || top.empty() || !(series.empty() || steps[1] > series.steps.back())) continue;
      series.add(steps[1], mean(top));
      rows.push_back({escaped(group.name), fmt::format("{:.0f} to {:.0f}", steps[0], steps[1])});
      for (const char* share : {"top_1", "top_1_shuffled", "top_k", "top_k_shuffled"}) {
        const auto layers = numbers(at(entry, {share}));
        rows.back().push_back(layers.empty() ? "–" : number_text(mean(layers)));
      }
    }
    if (!series.empty()) chart.lines.push_back({group.name, group.color, Stroke::full, {series, {}, {}}});
  }
  if (rows.size() == 1)
    return page.nothing(
        "Not measured. Keep checkpoints (train.keep_every), then: strand analyse RUN@STEP RUN@STEP --data NAME=PREFIX");
  page.table(rows);
  page.chart(std::move(chart));
}

void add_domains(Page& page, const Groups& groups) {
  page.panel("domains", "Domains and tokens", "What experts are for.");
  if (!check_format(page, groups)) return;
  if (!analysed(groups)) return page.nothing(std::string(make_analysis) + ", with one --data a domain.");
  for (const Group& group : groups) {
    add_domain_map(page, groups, group);
    add_flows(page, groups, group);
    add_token_lists(page, groups, group);
  }
}

namespace {
/// The tasks that are part of a group, such as the subjects of MMLU.
std::set<std::string> parts_of_groups(const Json& evaluation) {
  std::set<std::string> parts;
  const Json& groups = at(evaluation, {"group_subtasks"});
  if (!groups.is_object()) return parts;
  for (const auto& [group, tasks] : groups.items())
    for (const Json& task : tasks)
      if (task.is_string()) parts.insert(task.get<std::string>());
  for (const auto& [group, tasks] : groups.items()) parts.erase(group);
  return parts;
}

/// The measures of one task: those of the harness with chance and majority beside acc, and those of right answers.
void add_task(std::vector<Row>& rows, const std::string& kind, const std::string& task, const Json& values,
              const Json& levels) {
  const auto level = [&](const char* name) { return number_text(number(at(levels, {name}))); };
  for (const auto& [key, value] : values.items()) {
    if (!value.is_number() || key.find("_stderr") != std::string::npos) continue;
    const size_t comma = key.find(',');
    const std::string measure = key.substr(0, comma);
    const std::string error = measure + "_stderr" + (comma == std::string::npos ? "" : key.substr(comma));
    const bool choices = measure.starts_with("acc");
    rows.push_back({kind, escaped(task), escaped(measure), number_text(number(value)),
                    values.contains(error) ? number_text(number(values[error]), 2) : "–",
                    choices ? level("chance") : "–", choices ? level("majority") : "–"});
  }
  constexpr std::pair<const char*, const char*> of_gold[] = {{"gold_bits_per_byte", "bits a byte of the right answer"},
                                                             {"gold_probability", "probability of the right answer"},
                                                             {"gold_margin", "its lead over the best other, nats"}};
  for (const auto& [key, name] : of_gold)
    if (at(levels, {key}).is_number()) rows.push_back({kind, escaped(task), name, level(key), "–", "–", "–"});
}
}  // namespace

void add_evaluation(Page& page, const Groups& groups) {
  page.panel(
      "evaluation", "Evaluation",
      "Zero-shot tasks. A score means something only beside chance; what is said of right answers moves sooner.");
  std::vector<Row> rows = {{"kind", "task", "measure", "value", "standard error", "chance", "majority"}}, parts = rows;
  for (const Group& group : groups) {
    const Json& evaluation = group.runs.front()->evaluation;
    const Json& results = at(evaluation, {"results"});
    if (!results.is_object()) continue;
    const std::set<std::string> of_groups = parts_of_groups(evaluation);
    for (const auto& [task, values] : results.items())
      if (values.is_object())
        add_task(of_groups.contains(task) ? parts : rows, escaped(group.name), task, values,
                 at(evaluation, {"strand", "levels", task.c_str()}));
  }
  if (rows.size() == 1 && parts.size() == 1)
    return page.nothing(
        "Not evaluated on tasks. strand eval RUN --tasks NAMES --task-data DIR --out RUN/evaluation makes what is "
        "shown here.");
  page.table(rows);
  if (parts.size() == 1) return;
  page.html("<details><summary>Tasks that are part of a group</summary>");
  page.table(parts);
  page.html("</details>");
}

void add_samples(Page& page, const Groups& groups) {
  page.panel("samples", "Text samples", "");
  bool any = false;
  for (const Group& group : groups) {
    const RunFiles& run = *group.runs.front();
    if (run.samples.empty()) continue;
    any = true;
    page.html("<p>" + escaped(group.name) + "</p><pre>" + escaped(run.samples) + "</pre>");
  }
  if (!any) page.nothing("No text. To show some here: strand generate RUN --prompt TEXT > RUN/samples.txt");
}

}  // namespace strand::run_report
