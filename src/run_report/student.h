#pragma once
// Student's t: intervals and p values of mean differences.
#include <cstdint>
#include <vector>

namespace strand::run_report {

/// P(|T| < t) for df >= 1 degrees of freedom: the finite series of Abramowitz and Stegun, 26.7.3 and 26.7.4.
double student_probability(double t, int64_t df);
/// t with P(|T| < t) = probability, in (0, 1).
double student_quantile(double probability, int64_t df);

/// Mean of n >= 2 values, with its two-sided interval and the two-sided p value of a mean of 0.
struct MeanInterval {
  int64_t n = 0;
  double mean = 0, sd = 0, low = 0, high = 0, p = 1;
};
MeanInterval mean_interval(const std::vector<double>& values, double confidence);

}  // namespace strand::run_report
