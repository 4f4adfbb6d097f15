#pragma once
// Numbers over steps, as a page shows them: smoothed, thinned, averaged over runs.
#include <string>
#include <vector>

namespace strand::run_report {

/// `steps` ascends. A value that the log has as null (not finite) is NaN.
struct Series {
  std::vector<double> steps, values;

  size_t size() const { return steps.size(); }
  bool empty() const { return steps.empty(); }
  void add(double step, double value) {
    steps.push_back(step);
    values.push_back(value);
  }
};

/// A series with a range about each value, from `low` to `high`; both are empty where there is none.
struct Band {
  Series middle;
  std::vector<double> low, high;
};

/// Mean over `share` of the points, half of them before and half after a point, fewer at the ends. NaN is left out.
Series smoothed(const Series& series, double share);

/// At most `most` points (at least 4): of each of most/2 equal parts the least and the greatest value stay, in order,
/// so that no spike is lost. NaN counts as the greatest.
Series thinned(const Series& series, size_t most);

/// Mean, least and greatest over series, at the steps that all of them have. One series has no range.
Band mean_of(const std::vector<Series>& all);

/// Mean of the finite values in the last `share` of the points; NaN without any.
double late_mean(const Series& series, double share);
/// The last finite value; NaN without any.
double last_value(const Series& series);

}  // namespace strand::run_report
