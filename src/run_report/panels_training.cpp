#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "config/terms.h"
#include "core/number_text.h"
#include "run_report/panels.h"
#include "run_report/text.h"

namespace strand::run_report {

namespace {
constexpr double smoothing = 0.02;  ///< of the steps, about a point of a line that says "smoothed"

Band across(const Groups& groups, double value) {
  double from = 0, to = 1;
  for (const Group& group : groups)
    for (const RunFiles* run : group.runs) to = std::max(to, static_cast<double>(run->last_step));
  return {{{from, to}, {value, value}}, {}, {}};
}

/// Value of the loss after its first fall: the greatest after 3 % of the steps.
double top_of(const Groups& groups, const std::string& column) {
  double top = -std::numeric_limits<double>::infinity();
  for (const Group& group : groups) {
    const Band band = group.band(column);
    for (size_t i = band.middle.size() * 3 / 100; i < band.middle.size(); ++i)
      if (std::isfinite(band.middle.values[i])) top = std::max(top, band.middle.values[i]);
  }
  return top;
}

Band smoothed(const Band& band, double share) {
  if (band.low.empty()) return {smoothed(band.middle, share), {}, {}};
  const Series low{band.middle.steps, band.low}, high{band.middle.steps, band.high};
  return {smoothed(band.middle, share), smoothed(low, share).values, smoothed(high, share).values};
}

bool has(const Groups& groups, const std::string& column) {
  for (const Group& group : groups)
    for (const RunFiles* run : group.runs)
      if (!run->column(column).empty()) return true;
  return false;
}
}  // namespace

Chart chart_of(const Quantity& quantity, const Groups& groups) {
  Chart chart{.id = quantity.id, .title = quantity.title, .note = quantity.note, .from_zero = quantity.from_zero};
  for (const Group& group : groups) {
    Band band = group.band(quantity.column);
    for (auto* values : {&band.middle.values, &band.low, &band.high})
      for (double& value : *values) {
        value *= quantity.scale;
        if (quantity.change) value = quantity.change(value);
      }
    for (size_t i = 0; i < band.low.size(); ++i)
      if (band.low[i] > band.high[i]) std::swap(band.low[i], band.high[i]);
    if (quantity.smoothing > 0) band = smoothed(band, quantity.smoothing);
    chart.lines.push_back({group.name, group.color, Stroke::full, std::move(band)});
  }
  if (!quantity.reference_name.empty())
    chart.lines.push_back({quantity.reference_name, colors - 1, Stroke::dashed, across(groups, quantity.reference)});
  return chart;
}

void add_losses(Page& page, const Groups& groups) {
  page.panel("loss", "Cross-entropy",
             "In nats a token; perplexity is e to that power. The first fall leaves the picture.");
  if (groups.size() == 1 && groups.front().runs.size() == 1) {
    const RunFiles& run = *groups.front().runs.front();
    const Series& ce = run.column("ce");
    Chart chart{.id = "chart-ce", .title = "cross-entropy, nats", .top = top_of(groups, "ce")};
    chart.lines.push_back({"training", 0, Stroke::faint, {ce, {}, {}}});
    chart.lines.push_back({"training, smoothed", 0, Stroke::full, {smoothed(ce, smoothing), {}, {}}});
    if (has(groups, "val_loss"))
      chart.lines.push_back({"validation", 1, Stroke::full, {run.column("val_loss"), {}, {}}});
    page.chart(std::move(chart));
  } else {
    Chart training = chart_of(
        {.id = "chart-ce", .title = "training cross-entropy, smoothed, nats", .column = "ce", .smoothing = smoothing},
        groups);
    training.top = top_of(groups, "ce");
    page.chart(std::move(training));
    if (has(groups, "val_loss")) {
      Chart validation =
          chart_of({.id = "chart-val", .title = "validation cross-entropy, nats", .column = "val_loss"}, groups);
      validation.top = top_of(groups, "ce");
      page.chart(std::move(validation));
    }
  }
  if (!has(groups, "val_loss")) page.nothing("No validation: train.eval_every is 0, or it has not come yet.");
}

void add_terms(Page& page, const Groups& groups) {
  page.panel("terms", "Terms of the loss",
             "Each term as it is, without its weight. The table has what each added to the loss in the last 5 % of the "
             "steps.");
  std::vector<std::vector<std::string>> rows = {
      {"kind", "term", "weight", "value", "weight × value", "share of the loss"}};
  for (const Group& group : groups) {
    const LossConfig& losses = group.runs.front()->config.losses;
    const double loss = late_mean(group.band("loss").middle, 0.05);
    for (const TermRow& row : term_table) {
      const double weight = row.weight ? losses.*row.weight : 1, value = late_mean(group.band(row.name).middle, 0.05);
      if (!std::isfinite(value)) continue;
      rows.push_back({fmt::format("<i class=\"c{}\"></i> {}", group.color, escaped(group.name)), row.name,
                      weight == 0 ? "0" : number_text(weight, 3), number_text(value),
                      weight == 0 ? "–" : number_text(weight * value),
                      weight == 0 ? "–" : share_text(weight * value / loss)});
    }
  }
  page.table(rows);
  page.html("<div class=\"grid\">");
  for (const TermRow& row : term_table)
    if (row.term != Term::ce && has(groups, row.name))
      page.chart(chart_of({.id = std::string("chart-term-") + row.name,
                           .title = fmt::format("{}: {}", row.name, row.text),
                           .column = row.name,
                           .smoothing = smoothing},
                          groups));
  page.html("</div>");
}

void add_optimizer(Page& page, const Groups& groups) {
  page.panel("optimizer", "Learning rate and gradient", "");
  page.html("<div class=\"grid\">");
  page.chart(
      chart_of({.id = "chart-lr", .title = "learning rate", .column = "lr", .from_zero = FromZero::yes}, groups));
  const double clip = groups.front().runs.front()->config.optimizer.clip_norm;
  Quantity norm{.id = "chart-norm",
                .title = "norm of the gradient, smoothed",
                .column = "grad_norm",
                .smoothing = smoothing,
                .from_zero = FromZero::yes};
  if (clip > 0) {
    norm.reference = clip;
    norm.reference_name = "optimizer.clip_norm";
  }
  page.chart(chart_of(norm, groups));
  page.chart(chart_of({.id = "chart-jumps",
                       .title = "loss, in deviations from its recent mean",
                       .note = "A point above 6 is a jump.",
                       .column = "loss_z"},
                      groups));
  if (has(groups, "update_ratio"))
    page.chart(
        chart_of({.id = "chart-update",
                  .title = "length of a step's update over that of the weights, logged steps",
                  .note = "It falls with the learning rate. Near 0.001 is usual; far above it, weights are thrown "
                          "about, and far below, they hardly move.",
                  .column = "update_ratio",
                  .from_zero = FromZero::yes},
                 groups));
  page.html("</div>");
  int64_t nonfinite = 0;
  for (const Group& group : groups)
    for (const RunFiles* run : group.runs) nonfinite += run->nonfinite_steps;
  page.text(
      nonfinite == 0
          ? "No step was skipped."
          : fmt::format("{} steps had a loss or a gradient that is not a number, and changed no weight.", nonfinite));
}

namespace {
/// Where the time of a step goes: means over the later half of the logged steps.
void add_parts(Page& page, const Groups& groups) {
  constexpr std::pair<const char*, const char*> parts[] = {
      {"forward", "layers, forward"},       {"head", "head and loss, both ways"},
      {"backward", "layers, backward"},     {"update", "gradient norm and optimizer"},
      {"exchange", "waiting for messages"}, {"data", "reading the batch"}};
  if (!has(groups, "step_seconds.forward"))
    return page.nothing(
        "The parts of a step were not measured: on a GPU nothing waits within a step. strand bench measures them.");
  std::vector<std::vector<std::string>> rows = {{"kind", "part of a step", "seconds", "share"}};
  for (const Group& group : groups) {
    double all = 0;
    std::vector<double> seconds;
    for (const auto& [part, name] : parts) {
      seconds.push_back(late_mean(group.band(std::string("step_seconds.") + part).middle, 0.5));
      if (std::isfinite(seconds.back())) all += seconds.back();
    }
    for (size_t i = 0; i < seconds.size(); ++i)
      if (std::isfinite(seconds[i]))
        rows.push_back({fmt::format("<i class=\"c{}\"></i> {}", group.color, escaped(group.name)), parts[i].second,
                        number_text(seconds[i], 3), share_text(seconds[i] / all)});
  }
  page.table(rows);
}

void add_memory(Page& page, const Groups& groups) {
  for (const Group& group : groups) {
    double peak = 0;
    for (const RunFiles* run : group.runs) peak = std::max(peak, last_value(run->column("peak_bytes")));
    if (!(peak > 0)) continue;
    const auto& environment = group.runs.front()->environment;
    std::string text = fmt::format("Peak memory of a process: {} GiB", fixed_text(peak / 0x1p30, 2));
    if (environment.is_object() && environment.contains("planned_bytes") && environment["planned_bytes"].is_number())
      text += fmt::format("; the tensors take {} GiB of it as planned",
                          fixed_text(environment["planned_bytes"].get<double>() / 0x1p30, 2));
    page.text(text + (groups.size() > 1 ? " (" + group.name + ")." : "."));
  }
}
}  // namespace

void add_speed(Page& page, const Groups& groups) {
  page.panel("speed", "Speed", "Other programs on the machine show here too.");
  page.html("<div class=\"grid\">");
  page.chart(chart_of({.id = "chart-speed",
                       .title = "tokens a second, smoothed",
                       .column = "tokens_per_second",
                       .smoothing = smoothing,
                       .from_zero = FromZero::yes},
                      groups));
  if (has(groups, "mfu"))
    page.chart(chart_of({.id = "chart-mfu",
                         .title = "MFU, % of the measured peak, smoothed",
                         .column = "mfu",
                         .scale = 100,
                         .smoothing = smoothing,
                         .from_zero = FromZero::yes},
                        groups));
  if (has(groups, "comm_seconds.exposed")) {
    page.chart(chart_of({.id = "chart-exposed",
                         .title = "seconds of a step that a rank waited for messages",
                         .column = "comm_seconds.exposed",
                         .from_zero = FromZero::yes},
                        groups));
    page.chart(chart_of({.id = "chart-slowest",
                         .title = "seconds of a step, slowest rank",
                         .column = "step_seconds_by_rank.max",
                         .from_zero = FromZero::yes},
                        groups));
  }
  page.html("</div>");
  add_parts(page, groups);
  add_memory(page, groups);
}

}  // namespace strand::run_report
