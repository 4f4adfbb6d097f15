#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "config/terms.h"
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
  page.html("</div>");
  int64_t nonfinite = 0;
  for (const Group& group : groups)
    for (const RunFiles* run : group.runs) nonfinite += run->nonfinite_steps;
  page.text(
      nonfinite == 0
          ? "No step was skipped."
          : fmt::format("{} steps had a loss or a gradient that is not a number, and changed no weight.", nonfinite));
}

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
}

}  // namespace strand::run_report
