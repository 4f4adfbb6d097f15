#include "train/resume_checks.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "data/fingerprint.h"
#include "train/schedule.h"

namespace strand {

namespace {
double total_weight(const DataState& data) {
  double sum = 0;
  for (const DataState::Source& source : data.sources) sum += source.weight;
  return sum;
}

bool near(double a, double b, double tolerance) {
  return std::abs(a - b) <= tolerance * std::max(std::abs(a), std::abs(b));
}

std::string fingerprint_of_source(const Sampler& data, size_t source) {
  return fingerprint(*data.source(static_cast<int>(source)).file);
}
}  // namespace

DataState data_state(const DataConfig& config, const Sampler& train, const Sampler* validation) {
  DataState state{.sequence_length = train.sequence_length(), .sources = {}, .validation = {}};
  for (size_t k = 0; k < config.train.size(); ++k)
    state.sources.push_back({config.train[k].weight, fingerprint_of_source(train, k)});
  for (size_t k = 0; validation != nullptr && k < config.val.size(); ++k)
    state.validation.push_back(fingerprint_of_source(*validation, k));
  return state;
}

std::string to_text(const DataState& data) {
  std::string text = fmt::format("data.sequence_length: {}\n", data.sequence_length);
  for (size_t k = 0; k < data.sources.size(); ++k)
    text += fmt::format("data.train[{}]: {}, weight {}\n", k, data.sources[k].fingerprint, data.sources[k].weight);
  for (size_t k = 0; k < data.validation.size(); ++k) text += fmt::format("data.val[{}]: {}\n", k, data.validation[k]);
  return text;
}

std::vector<std::string> data_differences(const DataState& saved, const DataState& now) {
  std::vector<std::string> differences;
  if (saved.sequence_length != now.sequence_length)
    differences.push_back(
        fmt::format("data.sequence_length: {} became {}", saved.sequence_length, now.sequence_length));
  if (saved.sources.size() != now.sources.size()) {
    differences.push_back(fmt::format("data.train: {} sources became {}", saved.sources.size(), now.sources.size()));
    return differences;
  }
  const double weight_before = total_weight(saved), weight_now = total_weight(now);
  for (size_t k = 0; k < saved.sources.size(); ++k) {
    const DataState::Source &before = saved.sources[k], &after = now.sources[k];
    if (before.fingerprint != after.fingerprint)
      differences.push_back(fmt::format("data.train[{}]: {} became {}", k, before.fingerprint, after.fingerprint));
    // The same ratios in other numbers (0.1 to 0.6 and 1 to 6) differ by a few roundings of the sums. That moves one of
    // some 10^8 samples by a place.
    if (!near(before.weight * weight_now, after.weight * weight_before, 1e-14))
      differences.push_back(fmt::format("data.train[{}]: weight {} of {:.6g} in all became {} of {:.6g}", k,
                                        before.weight, weight_before, after.weight, weight_now));
  }
  return differences;
}

std::string validation_difference(const DataState& saved, const DataState& now) {
  if (saved.validation.empty() || now.validation.empty() || saved.validation == now.validation) return "";
  std::string text = "the validation data is not what it was";
  if (saved.validation.size() != now.validation.size())
    text += fmt::format("; data.val: {} sources became {}", saved.validation.size(), now.validation.size());
  for (size_t k = 0; k < std::min(saved.validation.size(), now.validation.size()); ++k)
    if (saved.validation[k] != now.validation[k])
      text += fmt::format("; data.val[{}]: {} became {}", k, saved.validation[k], now.validation[k]);
  return text + ". Validation losses from here on are of another text than those before";
}

std::string learning_rate_jump(const Config& saved, const Config& now, int64_t start) {
  if (start == 0 || start >= now.train.steps) return "";
  const auto rate = [](const Config& c, int64_t step) {
    return learning_rate(c.optimizer, c.schedule, c.train.steps, step);
  };
  const double before = rate(saved, start - 1), next = rate(now, start);
  const bool as_planned = start < saved.train.steps && near(rate(saved, start), next, 1e-9);
  if (as_planned || near(before, next, 0.01)) return "";
  return fmt::format(
      "the learning rate jumps: step {} had {:.3g}, step {} has {:.3g}, because the schedule or its {} steps are not "
      "those of the checkpoint ({} steps)",
      start, before, start + 1, next, now.train.steps, saved.train.steps);
}

}  // namespace strand
