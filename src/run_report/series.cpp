#include "run_report/series.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>

namespace strand::run_report {

namespace {
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// NaN is above everything.
bool below(double a, double b) {
  return std::isnan(b) ? !std::isnan(a) : a < b;
}
}  // namespace

Series smoothed(const Series& series, double share) {
  const auto n = static_cast<int64_t>(series.size());
  const int64_t half = static_cast<int64_t>(share * static_cast<double>(n) / 2);
  std::vector<double> sums(static_cast<size_t>(n) + 1, 0);
  std::vector<int64_t> counts(static_cast<size_t>(n) + 1, 0);
  for (size_t i = 0; i < series.size(); ++i) {
    const bool finite = std::isfinite(series.values[i]);
    sums[i + 1] = sums[i] + (finite ? series.values[i] : 0);
    counts[i + 1] = counts[i] + finite;
  }
  Series out{series.steps, {}};
  for (int64_t i = 0; i < n; ++i) {
    const auto from = static_cast<size_t>(std::max<int64_t>(0, i - half));
    const auto to = static_cast<size_t>(std::min(n, i + half + 1));
    const int64_t count = counts[to] - counts[from];
    out.values.push_back(count > 0 ? (sums[to] - sums[from]) / static_cast<double>(count) : nan);
  }
  return out;
}

Series thinned(const Series& series, size_t most) {
  if (series.size() <= most) return series;
  const size_t parts = most / 2;
  Series out;
  for (size_t part = 0; part < parts; ++part) {
    const size_t from = part * series.size() / parts, to = (part + 1) * series.size() / parts;
    const auto begin = series.values.begin();
    const auto first = begin + static_cast<std::ptrdiff_t>(from), last = begin + static_cast<std::ptrdiff_t>(to);
    auto least = static_cast<size_t>(std::min_element(first, last, below) - begin);
    auto greatest = static_cast<size_t>(std::max_element(first, last, below) - begin);
    if (least > greatest) std::swap(least, greatest);
    out.add(series.steps[least], series.values[least]);
    if (greatest != least) out.add(series.steps[greatest], series.values[greatest]);
  }
  return out;
}

Band mean_of(const std::vector<Series>& all) {
  if (all.size() == 1) return {all.front(), {}, {}};
  std::map<double, std::vector<double>> by_step;
  for (const Series& series : all)
    for (size_t i = 0; i < series.size(); ++i) by_step[series.steps[i]].push_back(series.values[i]);
  Band band;
  for (const auto& [step, values] : by_step) {
    if (values.size() != all.size()) continue;
    double sum = 0;
    for (const double value : values) sum += value;
    band.middle.add(step, sum / static_cast<double>(values.size()));
    band.low.push_back(*std::min_element(values.begin(), values.end(), below));
    band.high.push_back(*std::max_element(values.begin(), values.end(), below));
  }
  return band;
}

double late_mean(const Series& series, double share) {
  const auto from = static_cast<size_t>((1 - share) * static_cast<double>(series.size()));
  double sum = 0;
  int64_t count = 0;
  for (size_t i = from; i < series.size(); ++i) {
    if (!std::isfinite(series.values[i])) continue;
    sum += series.values[i];
    ++count;
  }
  return count > 0 ? sum / static_cast<double>(count) : nan;
}

double last_value(const Series& series) {
  for (size_t i = series.size(); i > 0; --i)
    if (std::isfinite(series.values[i - 1])) return series.values[i - 1];
  return nan;
}

}  // namespace strand::run_report
