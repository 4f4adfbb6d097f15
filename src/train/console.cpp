#include "train/console.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "core/log.h"
#include "core/number_text.h"
#include "core/standard_streams.h"
#include "core/terminal.h"

namespace strand {

namespace {
constexpr const char* clear_line = "\r\x1b[2K";
}  // namespace

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  const auto s = static_cast<int64_t>(seconds + 0.5);
  if (s >= 3600) return fmt::format("{} h {:02} min", s / 3600, s % 3600 / 60);
  if (s >= 60) return fmt::format("{} min {:02} s", s / 60, s % 60);
  return fmt::format("{} s", s);
}

double worst_expert_load(const std::vector<std::vector<double>>& counts) {
  double worst = 0;
  for (const std::vector<double>& layer : counts) {
    double total = 0, most = 0;
    for (double c : layer) {
      total += c;
      most = std::max(most, c);
    }
    if (total > 0) worst = std::max(worst, most * static_cast<double>(layer.size()) / total);
  }
  return worst;
}

namespace {
/// The parts of the line of a step, in their order.
struct StepParts {
  std::string step, loss, terms, rates, speed, mfu, busiest, exposed, left;

  std::string line() const { return step + loss + terms + rates + speed + mfu + busiest + exposed + left; }
};

StepParts parts_of(const StepReport& r) {
  StepParts p;
  const size_t width = std::to_string(r.steps).size();
  p.step = fmt::format("step {:>{}}/{}", r.step, width, r.steps);
  p.loss = "  loss " + fixed_text(r.terms.loss, 4);
  p.terms = " ";
  r.terms.for_each_measured([&](const char* name, double value) {
    if (value != 0 && std::isfinite(value)) p.terms += fmt::format("  {} {:.4g}", name, value);
  });
  p.rates = fmt::format(" | lr {:.2e}  grad {:.3g}", r.lr, r.gradient_norm);
  p.speed = " | " + fixed_text(r.tokens_per_second, 0) + " tok/s";
  if (r.mfu > 0) p.mfu = "  " + fixed_text(100 * r.mfu, 0) + "% MFU";
  if (r.worst_expert > 0) p.busiest = fmt::format(" | busiest expert {:.2f}x", r.worst_expert);
  if (r.exposed_share >= 0) p.exposed = " | comm " + fixed_text(100 * r.exposed_share, 0) + "% exposed";
  p.left = fmt::format(" | {} left", format_duration(r.seconds_left));
  return p;
}
}  // namespace

std::string format_step(const StepReport& report) {
  return parts_of(report).line();
}

std::string format_step(const StepReport& report, int columns) {
  StepParts p = parts_of(report);
  for (std::string* part : {&p.terms, &p.busiest, &p.exposed, &p.mfu, &p.rates, &p.speed, &p.left, &p.loss}) {
    if (columns_of(p.line()) <= columns) break;
    part->clear();
  }
  return fit_columns(p.line(), columns);
}

Console::Console(Lines lines) : terminal_(lines == Lines::all && rewrites_lines(STDOUT_FILENO)) {}

void Console::write(const std::string& text) {
  if (silent_) return;
  std::string reason;
  const Offered offered = offer_output(text, reason);
  silent_ = offered == Offered::nobody_reads;
  if (offered == Offered::taken || lost_said_) return;
  lost_said_ = true;
  log_warning(
      fmt::format("cannot write to standard output: {}; training goes on, and log.jsonl has every step", reason));
}

void Console::step(const StepReport& report, Kind kind) {
  if (!terminal_ && kind == Kind::passing) return;
  const bool passing = kind == Kind::passing;
  const std::string clear = status_shown_ ? clear_line : "";
  // A terminal whose last column was written may already have gone on to the next row.
  write(clear + (passing ? format_step(report, terminal_columns(STDOUT_FILENO) - 1) : format_step(report) + "\n"));
  status_shown_ = passing;
}

void Console::news(const std::string& text) {
  write((status_shown_ ? clear_line : "") + text + "\n");
  status_shown_ = false;
}

}  // namespace strand
