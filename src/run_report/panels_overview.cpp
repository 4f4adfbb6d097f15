#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "config/model_size.h"
#include "config/schema.h"
#include "core/number_text.h"
#include "run_report/panels.h"
#include "run_report/student.h"
#include "run_report/text.h"
#include "run_report/verdict.h"

namespace strand::run_report {

namespace {
const char* outcome_class(Outcome outcome) {
  switch (outcome) {
    case Outcome::finished:
      return "good";
    case Outcome::not_finite:
      return "bad";
    case Outcome::waiting:
    case Outcome::running:
      break;
  }
  return "open";
}

std::string duration(double seconds) {
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  if (whole >= 3600) return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
  return whole >= 60 ? fmt::format("{} min {:02} s", whole / 60, whole % 60) : fmt::format("{} s", whole);
}

std::string millions(double n) {
  return n >= 1e9 ? fixed_text(n / 1e9, 2) + " G" : fixed_text(n / 1e6, 2) + " M";
}

std::string tile(const std::string& value, const std::string& label) {
  return fmt::format("<div class=\"tile\"><b>{}</b><span>{}</span></div>", escaped(value), escaped(label));
}

double median_of(std::vector<double> values) {
  if (values.empty()) return std::nan("");
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// The loss at the end: validation if there is one.
std::string loss_tiles(const RunFiles& run) {
  const double validation = last_value(run.column("val_loss")), training = late_mean(run.column("ce"), 0.05);
  const bool validated = std::isfinite(validation);
  const double bits = last_value(run.column("val_bits_per_byte"));
  const double loss = validated ? validation : training;
  return tile(number_text(loss, 5), validated ? "validation cross-entropy, nats" : "training cross-entropy, last 5 %") +
         tile(number_text(std::exp(loss), 4), "perplexity") +
         (std::isfinite(bits) ? tile(number_text(bits, 4), "bits a byte of the validation text")
                              : tile(number_text(loss / std::log(2), 4), "bits a token"));
}

std::string model_sentence(const Config& c) {
  std::string text = fmt::format("{} layers of width {}", c.model.num_layers, c.model.hidden_size);
  if (c.model.dense_layers > 0) text += fmt::format(", the first {} of them dense", c.model.dense_layers);
  text += fmt::format("; {} experts of width {}, {} for a token", c.moe.num_experts, c.moe.expert_ffn, c.moe.top_k);
  if (c.moe.shared_experts > 0) text += fmt::format(", and {} shared", c.moe.shared_experts);
  text += fmt::format("; batches of {} × {} tokens; seed {}", c.train.global_batch_size, c.data.sequence_length,
                      c.run.seed);
  return text + ".";
}

std::string environment_sentence(const RunFiles& run) {
  if (!run.environment.is_object()) return "";
  std::string text;
  for (const auto& [key, value] : run.environment.items())
    if (key != "planned_bytes" && value != "")  // the panel of speed has the bytes; outside a clone there is no commit
      text += fmt::format("{}{}: {}", text.empty() ? "" : "; ", key,
                          value.is_string() ? value.get<std::string>() : value.dump());
  return text + ".";
}

void add_one(Page& page, const RunFiles& run) {
  const Verdict verdict = verdict_of(run);
  page.html(fmt::format("<p class=\"verdict {}\">{}</p>", outcome_class(verdict.outcome), escaped(verdict.text)));
  const std::vector<double>& speeds = run.column("tokens_per_second").values;
  std::string tiles = loss_tiles(run);
  if (run.config.model.vocab_size > 0) {
    const ModelSize size = model_size(run.config);
    tiles += tile(millions(static_cast<double>(size.parameters)), "parameters (trained weights)") +
             tile(millions(static_cast<double>(size.active_parameters)), "of them active for a token");
  }
  tiles += tile(millions(run.tokens()), "tokens seen") + tile(duration(run.training_seconds()), "in steps") +
           tile(number_text(median_of(speeds), 4), "tokens/s, median");
  page.html("<div class=\"tiles\">" + tiles + "</div>");
  page.text(model_sentence(run.config));
  if (const std::string text = environment_sentence(run); !text.empty()) page.text(text);
}

void add_many(Page& page, const Groups& groups) {
  std::vector<std::vector<std::string>> rows = {
      {"run", "seed", "state", "cross-entropy", "perplexity", "bits a byte", "tokens", "tokens/s"}};
  for (const Group& group : groups) {
    for (const RunFiles* run : group.runs) {
      const Verdict verdict = verdict_of(*run);
      const double loss = endpoint(*run);
      rows.push_back({fmt::format("<i class=\"c{}\"></i> {}", group.color, escaped(run->name())),
                      std::to_string(run->config.run.seed),
                      verdict.outcome == Outcome::finished
                          ? "finished"
                          : fmt::format("step {} of {}", run->last_step, run->config.train.steps),
                      number_text(loss, 5), number_text(std::exp(loss), 4),
                      number_text(last_value(run->column("val_bits_per_byte")), 4), millions(run->tokens()),
                      number_text(median_of(run->column("tokens_per_second").values), 4)});
    }
  }
  page.table(rows);
  page.html(
      "<p class=\"note\">Cross-entropy: the mean of the last three validations, or of the last 5 % of the training "
      "steps in runs without validation.</p>");
}
}  // namespace

void add_header(Page& page, const std::vector<RunFiles>& runs, const Groups& groups) {
  if (runs.size() == 1) {
    page.panel("header", "Run " + runs.front().name(), "");
    return add_one(page, runs.front());
  }
  page.panel(
      "header",
      fmt::format("Comparison of {} runs of {} {}", runs.size(), groups.size(), groups.size() == 1 ? "kind" : "kinds"),
      "Runs of one kind differ in nothing but the seed. They have one color, and in pictures one line, their mean, "
      "within their range.");
  add_many(page, groups);
}

void add_warnings(Page& page, const std::vector<RunFiles>& runs) {
  page.panel("warnings", "What to look at", "");
  std::string items;
  for (const RunFiles& run : runs) {
    for (const std::string& warning : warnings_of(run)) {
      const std::string text = (runs.size() > 1 ? run.name() + ": " : "") + warning;
      items += "<li>" + escaped(text) + "</li>";
    }
  }
  if (items.empty()) return page.html("<p class=\"verdict good\">No warnings.</p>");
  page.html("<ul class=\"warnings\">" + items + "</ul>");
}

void add_comparison(Page& page, const Groups& groups) {
  if (groups.size() < 2) return;
  page.panel("comparison", "Differences between the kinds",
             "Cross-entropy of a kind minus that of the first one, paired by seed; below 0 is better than the first.");
  std::vector<std::vector<std::string>> rows = {
      {"difference", "pairs", "mean, nats", "95 % interval", "deviation", "p", "ratio of perplexity"}};
  for (const PairedDifference& pair : paired_differences(groups)) {
    const std::string name = escaped(pair.method + " − " + pair.base);
    const std::vector<double>& d = pair.differences;
    if (d.size() < 2) {
      rows.push_back({name, std::to_string(d.size()), d.empty() ? "–" : signed_text(d.front(), 4), "–", "–", "–",
                      d.empty() ? "–" : fmt::format("{:.4f}", std::exp(d.front()))});
      continue;
    }
    const MeanInterval m = mean_interval(d, 0.95);
    rows.push_back({name, std::to_string(m.n), signed_text(m.mean, 4),
                    signed_text(m.low, 4) + " to " + signed_text(m.high, 4), fixed_text(m.sd, 4), fixed_text(m.p, 3),
                    fmt::format("{:.4f}", std::exp(m.mean))});
  }
  page.table(rows);
  page.html(
      "<p class=\"note\">Student's t, two-sided, not corrected for the number of rows. Runs differ by themselves: one "
      "pair shows nothing, and three show only what is large against their deviation.</p>");
  std::string list;
  for (size_t i = 1; i < groups.size(); ++i) {
    const auto lines =
        config_differences(groups[0].runs[0]->config, groups[i].runs[0]->config,
                           {"model", "moe", "losses", "data", "optimizer", "schedule", "train", "parallel"});
    for (const std::string& line : lines) list += "<li>" + escaped(groups[i].name + ": " + line) + "</li>";
  }
  if (!list.empty()) page.html("<p>How their configurations differ from the first one's:</p><ul>" + list + "</ul>");
}

void add_configuration(Page& page, const std::vector<RunFiles>& runs, const Groups& groups) {
  page.panel("configuration", "Configuration", "");
  for (const Group& group : groups)
    page.html(fmt::format("<details><summary>{}</summary><pre>{}</pre></details>",
                          escaped(runs.size() == 1 ? "config.yaml" : group.name + ": config.yaml"),
                          escaped(group.runs.front()->config_yaml)));
  std::string links;
  for (const RunFiles& run : runs) links += "<li><code>" + escaped(run.directory) + "</code></li>";
  page.html("<p>Made from config.yaml and log.jsonl in</p><ul>" + links + "</ul>");
}

}  // namespace strand::run_report
