#include "run_report/verdict.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "config/schema.h"
#include "core/number_text.h"
#include "run_report/text.h"

namespace strand::run_report {

namespace {
// Limits of the warnings; docs/run-report.md repeats them.
constexpr double uneven_load = 3;           ///< busiest expert over the mean of its layer
constexpr double overfit = 0.01;            ///< nats that validation has risen from its least value
constexpr double jump = 6;                  ///< deviations of loss_z
constexpr double mostly_clipped = 0.5;      ///< share of the later half of the steps
constexpr double large_logsumexp = 30;      ///< root mean square of the router's log-sum-exp
constexpr double slower = 0.5;              ///< of the speed in the first half
constexpr double collapsed_entropy = 0.02;  ///< of ln E

using Warnings = std::vector<std::string>;

std::string plural(int64_t n, const std::string& one, const std::string& many) {
  return fmt::format("{} {}", n, n == 1 ? one : many);
}

/// Experts of `layer` that got nothing in all tables from the one returned to the last; the last one's own if none.
void warn_of_idle_experts(const RunFiles& run, Warnings& out) {
  if (run.loads.size() < 2) return;
  const std::vector<std::vector<double>>& last = run.loads.back().share;
  for (size_t layer = 0; layer < last.size(); ++layer) {
    int64_t idle = 0, since = 0;
    for (size_t expert = 0; expert < last[layer].size(); ++expert) {
      size_t first = run.loads.size();
      while (first > 0 && run.loads[first - 1].share.size() == last.size() &&
             run.loads[first - 1].share[layer].size() == last[layer].size() &&
             run.loads[first - 1].share[layer][expert] == 0)
        --first;
      if (run.loads.size() - first < 2) continue;
      ++idle;
      since = std::max(since, run.loads[first].step);
    }
    if (idle > 0)
      out.push_back(fmt::format("Layer {}: {} got no token in any logged step since step {}.",
                                layer + static_cast<size_t>(run.config.model.dense_layers),
                                plural(idle, "expert", "experts"), since));
  }
}

void warn_of_uneven_load(const RunFiles& run, Warnings& out) {
  if (run.loads.empty()) return;
  const LoadTable& last = run.loads.back();
  double most = 0;
  size_t where = 0;
  for (size_t layer = 0; layer < last.share.size(); ++layer) {
    const std::vector<double>& share = last.share[layer];
    const double worst = *std::max_element(share.begin(), share.end()) * static_cast<double>(share.size());
    if (worst > most) {
      most = worst;
      where = layer;
    }
  }
  if (most > uneven_load)
    out.push_back(fmt::format("Layer {}: at step {} the busiest expert has {:.1f} times the mean load.",
                              where + static_cast<size_t>(run.config.model.dense_layers), last.step, most));
}

void warn_of_validation(const RunFiles& run, Warnings& out) {
  const Series& validation = run.column("val_loss");
  if (validation.size() < 2) return;
  const auto least = std::min_element(validation.values.begin(), validation.values.end());
  const auto at = static_cast<size_t>(least - validation.values.begin());
  if (validation.values.back() > *least + overfit)
    out.push_back(fmt::format("The validation loss was least at step {:.0f} ({}) and is now {}.", validation.steps[at],
                              fixed_text(*least, 4), fixed_text(validation.values.back(), 4)));
}

void warn_of_steps(const RunFiles& run, Warnings& out) {
  const Series& z = run.column("loss_z");
  if (run.nonfinite_steps > 0)
    out.push_back(
        fmt::format("{} had a loss or a gradient that is not a number.", plural(run.nonfinite_steps, "step", "steps")));
  int64_t jumps = 0;
  double last_jump = 0;
  for (size_t i = 0; i < z.size(); ++i) {
    if (!(z.values[i] > jump)) continue;
    ++jumps;
    last_jump = z.steps[i];
  }
  if (jumps > 0)
    out.push_back(fmt::format("The loss jumped by more than {:.0f} deviations in {}, last at step {:.0f}.", jump,
                              plural(jumps, "step", "steps"), last_jump));
  const Series& norm = run.column("grad_norm");
  const double clip = run.config.optimizer.clip_norm;
  const size_t half = norm.size() / 2;
  const auto clipped = std::count_if(norm.values.begin() + static_cast<std::ptrdiff_t>(half), norm.values.end(),
                                     [&](double x) { return x > clip; });
  const auto later = static_cast<double>(norm.size() - half);
  if (clip > 0 && half > 0 && static_cast<double>(clipped) > mostly_clipped * later)
    out.push_back(
        fmt::format("In the later half of the steps, {:.0f} % of the gradients were longer than clip_norm {} and "
                    "were scaled down: the clipping sets the length of the steps.",
                    100 * static_cast<double>(clipped) / later, number_text(clip, 3)));
}

void warn_of_router(const RunFiles& run, Warnings& out) {
  const auto layers = static_cast<double>(run.moe_layers()), experts = static_cast<double>(run.config.moe.num_experts);
  if (layers <= 0 || experts < 2) return;
  const double size = std::sqrt(last_value(run.column("z")) / layers);
  if (size > large_logsumexp)
    out.push_back(
        fmt::format("The router's logits are large: the root mean square of their log-sum-exp is {:.0f}. "
                    "losses.z_weight holds them down.",
                    size));
  const double entropy = last_value(run.column("entropy")) / layers / std::log(experts);
  if (entropy < collapsed_entropy)
    out.push_back(
        fmt::format("The router is almost certain of every token: the mean entropy is {} of ln E. It hardly "
                    "learns any more.",
                    share_text(entropy)));
}

void warn_of_speed(const RunFiles& run, Warnings& out) {
  const Series& speed = run.column("tokens_per_second");
  if (speed.size() < 40) return;
  Series first{{speed.steps.begin(), speed.steps.begin() + static_cast<std::ptrdiff_t>(speed.size() / 2)},
               {speed.values.begin(), speed.values.begin() + static_cast<std::ptrdiff_t>(speed.size() / 2)}};
  const double before = late_mean(first, 1), after = late_mean(speed, 0.25);
  if (after < slower * before)
    out.push_back(
        fmt::format("The last quarter of the steps ran at {:.0f} tokens/s, the first half at {:.0f}.", after, before));
}
}  // namespace

Verdict verdict_of(const RunFiles& run) {
  const int64_t steps = run.config.train.steps;
  if (run.rows == 0) return {Outcome::waiting, fmt::format("No step of {} is done yet.", steps)};
  if (!run.last_is_finite && !run.finished())
    return {Outcome::not_finite,
            fmt::format("Stopped at step {} of {}: the loss or the gradient is not a number{}.", run.last_step, steps,
                        run.nonfinite.empty() ? "" : ", first in " + run.nonfinite)};
  if (!run.finished())
    return {Outcome::running,
            fmt::format("At step {} of {}: running, or stopped and ready to go on.", run.last_step, steps)};
  return {Outcome::finished, fmt::format("Finished: all {} steps are done.", steps)};
}

std::vector<std::string> warnings_of(const RunFiles& run) {
  Warnings out;
  warn_of_steps(run, out);
  warn_of_idle_experts(run, out);
  warn_of_uneven_load(run, out);
  warn_of_router(run, out);
  warn_of_validation(run, out);
  warn_of_speed(run, out);
  if (run.foreign_lines > 0)
    out.push_back(fmt::format("{} of log.jsonl {} no row, or out of order, and {} left out.",
                              plural(run.foreign_lines, "line", "lines"), run.foreign_lines == 1 ? "is" : "are",
                              run.foreign_lines == 1 ? "was" : "were"));
  for (const std::string& warning : config_warnings(run.config)) out.push_back("Configuration: " + warning + ".");
  return out;
}

}  // namespace strand::run_report
