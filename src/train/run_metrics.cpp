#include "train/run_metrics.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "config/model_size.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/number_text.h"
#include "data/text_bytes.h"
#include "model/step_graph.h"
#include "train/rank_peak.h"

namespace strand {

namespace fs = std::filesystem;

namespace {
/// A number as log.jsonl and TensorBoard name it.
struct NamedNumber {
  const char* key;
  const char* tag;
  double value;
};

std::vector<NamedNumber> numbers_of(const Validation& v) {
  std::vector<NamedNumber> numbers = {{"val_loss", "val/loss", v.loss},
                                      {"val_perplexity", "val/perplexity", std::exp(v.loss)}};
  if (v.bytes > 0)
    numbers.push_back({"val_bits_per_byte", "val/bits_per_byte", bits_per_byte(v.loss, v.tokens, v.bytes)});
  return numbers;
}

void add_to(LogRow& row, const Validation& validation) {
  for (const NamedNumber& number : numbers_of(validation)) row.add(number.key, number.value);
}

/// "cross-entropy 4.4776, perplexity 88.02, 2.1092 bits per byte (32768 tokens)"
std::string text_of(const Validation& v) {
  std::string text = fmt::format("cross-entropy {}, perplexity {:.2f}", fixed_text(v.loss, 4), std::exp(v.loss));
  if (v.bytes > 0) text += fmt::format(", {} bits per byte", fixed_text(bits_per_byte(v.loss, v.tokens, v.bytes), 4));
  return text + fmt::format(" ({} tokens)", v.tokens);
}
}  // namespace

RunMetrics::RunMetrics(const Config& config, Session& session)
    : config_(config),
      session_(session),
      console_(session.grid().ranks() > 1 ? Console::Lines::lasting_only : Console::Lines::all),
      flops_per_token_(model_size(config).training_flops_per_token) {
  measure_peak_again(3);
}

void RunMetrics::continue_from(const RunStart& start) {
  start_ = start.step;
  start_tokens_ = start.tokens;
  loss_score_.restore(start.losses);
  norm_score_.restore(start.norms);
}

void RunMetrics::open(const std::string& directory) {
  if (!first_rank()) return;
  const int64_t first_row = start_ == 0 ? 0 : start_ + 1;
  log_ = std::make_unique<RunLog>((fs::path(directory) / "log.jsonl").string(), first_row);
  events_ = std::make_unique<EventFile>(directory, first_row);
}

void RunMetrics::say(const std::string& text) const {
  if (first_rank()) log_info(text);
}

void RunMetrics::news(const std::string& text) {
  if (first_rank()) console_.news(text);
}

void RunMetrics::announce(const std::string& directory, int64_t windows, size_t planned_bytes) {
  const ModelSize size = model_size(config_);
  const TrainConfig& t = config_.train;
  const GridShape grid = session_.grid().shape();
  const Device& device = session_.device();
  const auto planned = static_cast<double>(planned_bytes);
  news(fmt::format(
      "{}: {} parameters (trained weights, each counted once), {} active for a token (in matrices); {} of memory as "
      "planned",
      directory, si_text(static_cast<double>(size.parameters)), si_text(static_cast<double>(size.active_parameters)),
      bytes_text(planned)));
  news(fmt::format("{} steps of {} tokens; the data is {} windows of {} tokens, of which this is {} epochs", t.steps,
                   t.global_batch_size * config_.data.sequence_length, windows, config_.data.sequence_length,
                   fixed_text(static_cast<double>(t.steps * t.global_batch_size) / static_cast<double>(windows), 2)));
  if (grid.ranks > 1) news(fmt::format("{}; each has {} of memory as planned", layout_text(grid), bytes_text(planned)));
  news(device.description());
  if (config_.run.device == DeviceKind::cuda) {
    const std::string no_graph = no_step_graph_because(config_, grid);
    news(no_graph.empty() ? "a step is recorded as a CUDA graph, and launched as one piece from then on"
                          : fmt::format("a step is not recorded as a CUDA graph, because {}", no_graph));
  }
  if (const std::string remark = device.bf16_remark(); config_.run.precision == Precision::bf16 && !remark.empty())
    news(remark);
  if (peak_flops_ > 0)
    news(fmt::format("measured peak of {}: {:.0f} GFLOP/s; MFU is against that",
                     grid.ranks > 1 ? "all ranks" : "this machine", peak_flops_ / 1e9));
}

// ---- the peak that MFU is a fraction of ---------------------------------------------------------------------------

/// Other work on the machine can only lower a measured peak, so the best rate so far counts.
void RunMetrics::measure_peak_again(int rounds) {
  const PeakKind kind = config_.run.precision == Precision::bf16 ? PeakKind::bf16 : PeakKind::fp32;
  peak_flops_ =
      std::max(peak_flops_, measure_peak_of_ranks(session_.device(), session_.grid().control(), kind, rounds));
  peak_measured_ = now();
}

/// A machine that was busy at the start may be idle now, so the peak is measured again, one round (30 ms) a minute. A
/// step that exceeds the peak shows that it was measured too low: then several rounds follow, and a warning when they
/// do not help.
void RunMetrics::check_peak(StepReport& report) {
  if (peak_flops_ == 0) return;
  constexpr double minute = 60;
  ControlChannel& hosts = session_.grid().control();
  if (hosts.all_reduce_max(static_cast<int64_t>(now() - peak_measured_ > minute)) == 1) measure_peak_again(1);
  const auto exceeded = [&] {
    report.mfu = mfu(report);
    return hosts.all_reduce_max(static_cast<int64_t>(report.mfu > 1)) == 1;
  };
  if (!exceeded()) return;
  measure_peak_again(7);
  if (exceeded() && !peak_doubted_) {
    news(fmt::format(
        "step {}: an MFU of {:.0f} % cannot be: the peak of {:.0f} GFLOP/s was measured too low, perhaps as "
        "other programs were running",
        report.step, 100 * report.mfu, peak_flops_ / 1e9));
    peak_doubted_ = true;
  }
}

double RunMetrics::mfu(const StepReport& report) const {
  return peak_flops_ > 0 ? report.tokens_per_second * flops_per_token_ / peak_flops_ : 0;
}

// ---- steps --------------------------------------------------------------------------------------------------------

int64_t RunMetrics::tokens(int64_t step) const {
  return start_tokens_ + (step - start_) * config_.train.global_batch_size * config_.data.sequence_length;
}

void RunMetrics::take(const StepRow& row, const StepResult& result) {
  row_ = row;
  validation_.reset();
  seconds_ += row.seconds;
  StepReport& r = report_;
  r = {.step = row.step, .steps = config_.train.steps};
  r.terms = result.terms;
  r.gradient_norm = result.gradient_norm;
  r.lr = row.lr;
  if (row.ranks) r.exposed_share = row.ranks->exposed_share();
  r.tokens = tokens(r.step);
  r.tokens_per_second = static_cast<double>(r.tokens - tokens(r.step - 1)) / row.seconds;
  r.mfu = mfu(r);
  r.loss_z = loss_score_.score(r.terms.loss);
  r.gradient_norm_z = norm_score_.score(r.gradient_norm);
  r.worst_expert = worst_expert_load(result.expert_counts);
  update_ratio_ = result.update_ratio;
  bias_range_ = result.bias_range;
  expert_load_.clear();
  for (const std::vector<double>& layer : result.expert_counts) {
    double total = 0;
    for (const double count : layer) total += count;
    for (const double count : layer) expert_load_.push_back(count / total);
  }
  r.seconds_left = seconds_ / static_cast<double>(r.step - start_) * static_cast<double>(config_.train.steps - r.step);
  if (row.shown) check_peak(r);
  if (first_rank()) console_.step(r, row.shown ? Console::Kind::lasting : Console::Kind::passing);
}

void RunMetrics::take(int64_t step, const Validation& validation) {
  news(fmt::format("validation after step {}: {}", step, text_of(validation)));
  validation_ = validation;
  if (!first_rank()) return;
  for (const NamedNumber& number : numbers_of(validation)) events_->scalar(number.tag, step, number.value);
  events_->flush();
  // Before the first step there is no row of a step in which the validation could stand.
  if (step > 0) return;
  LogRow row(0);
  add_to(row, validation);
  log_->write(row);
}

void RunMetrics::write_row() {
  if (!first_rank()) return;
  LogRow row(report_.step);
  row.add("loss", report_.terms.loss);
  report_.terms.for_each_measured([&](const char* name, double value) { row.add(name, value); });
  row.add("lr", report_.lr)
      .add("grad_norm", report_.gradient_norm)
      .add("loss_z", report_.loss_z)
      .add("grad_norm_z", report_.gradient_norm_z)
      .add("tokens", report_.tokens)
      .add("tokens_per_second", report_.tokens_per_second)
      .add("mfu", report_.mfu)
      .add("worst_expert_load", report_.worst_expert);
  if (update_ratio_) row.add("update_ratio", *update_ratio_);
  if (row_.logged && bias_range_) row.add("router_bias_range", *bias_range_);
  if (validation_) add_to(row, *validation_);
  if (!row_.nonfinite.empty()) row.add("nonfinite", row_.nonfinite);
  if (row_.costs) add_to(row, *row_.costs);
  if (row_.logged && !expert_load_.empty())
    row.add("expert_load", expert_load_, static_cast<size_t>(config_.moe.num_experts));
  if (row_.logged && row_.ranks) add_to(row, *row_.ranks);
  log_->write(row);
  write_events(report_);
}

void RunMetrics::write_events(const StepReport& report) {
  events_->scalar("train/loss", report.step, report.terms.loss);
  report.terms.for_each_measured([&](const char* name, double value) {
    if (std::isfinite(value)) events_->scalar(fmt::format("terms/{}", name), report.step, value);
  });
  events_->scalar("train/lr", report.step, report.lr);
  events_->scalar("train/grad_norm", report.step, report.gradient_norm);
  events_->scalar("speed/tokens_per_second", report.step, report.tokens_per_second);
  if (peak_flops_ > 0) events_->scalar("speed/mfu", report.step, report.mfu);
  events_->scalar("experts/worst_load", report.step, report.worst_expert);
  if (update_ratio_) events_->scalar("train/update_ratio", report.step, *update_ratio_);
  if (row_.logged && bias_range_) events_->scalar("experts/router_bias_range", report.step, *bias_range_);
  if (row_.logged) events_->flush();
}

void RunMetrics::sync() {
  if (log_) log_->sync();
  if (events_) events_->sync();
}

void RunMetrics::finish() {
  if (log_) log_->finish();
  if (events_) events_->finish();
}

}  // namespace strand
