#include "train/console.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace strand {

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

std::string format_step(const StepReport& r) {
  std::string terms;
  for (int i = 0; i < term_count; ++i)
    if (const double value = r.terms.value[static_cast<size_t>(i)]; value != 0 && std::isfinite(value))
      terms += fmt::format("  {} {:.4g}", term_names[i], r.terms.value[static_cast<size_t>(i)]);
  const int width = static_cast<int>(std::to_string(r.steps).size());
  std::string line = fmt::format("step {:>{}}/{}  loss {:.4f} {} | lr {:.2e}  grad {:.3g} | {:.0f} tok/s", r.step,
                                 width, r.steps, r.terms.loss, terms, r.lr, r.gradient_norm, r.tokens_per_second);
  if (r.mfu > 0) line += fmt::format("  {:.0f}% MFU", 100 * r.mfu);
  if (r.worst_expert > 0) line += fmt::format(" | busiest expert {:.2f}x", r.worst_expert);
  if (r.exposed_share >= 0) line += fmt::format(" | comm {:.0f}% exposed", 100 * r.exposed_share);
  return line + fmt::format(" | {} left", format_duration(r.seconds_left));
}

Console::Console(Lines lines) : terminal_(lines == Lines::all && isatty(STDOUT_FILENO) == 1) {}

void Console::clear_status() {
  if (status_shown_) std::fputs("\r\x1b[2K", stdout);
  status_shown_ = false;
}

void Console::step(const StepReport& report, Kind kind) {
  if (!terminal_ && kind == Kind::passing) return;
  clear_status();
  std::fputs(format_step(report).c_str(), stdout);
  if (kind == Kind::lasting)
    std::fputc('\n', stdout);
  else
    status_shown_ = true;
  std::fflush(stdout);
}

void Console::news(const std::string& text) {
  clear_status();
  std::fputs(text.c_str(), stdout);
  std::fputc('\n', stdout);
  std::fflush(stdout);
}

}  // namespace strand
