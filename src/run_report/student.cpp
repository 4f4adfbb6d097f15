#include "run_report/student.h"

#include <cmath>
#include <numbers>

namespace strand::run_report {

double student_probability(double t, int64_t df) {
  const double theta = std::atan(t / std::sqrt(static_cast<double>(df)));
  if (df == 1) return 2 * theta / std::numbers::pi;
  const double sine = std::sin(theta), cosine = std::cos(theta);
  const bool odd = df % 2 == 1;
  double term = odd ? cosine : 1, sum = term;
  for (int64_t k = odd ? 3 : 2; k < df - 1; k += 2) {
    term *= cosine * cosine * static_cast<double>(k - 1) / static_cast<double>(k);
    sum += term;
  }
  return odd ? 2 / std::numbers::pi * (theta + sine * sum) : sine * sum;
}

double student_quantile(double probability, int64_t df) {
  double low = 0, high = 1;
  while (student_probability(high, df) < probability) high *= 2;
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (student_probability(middle, df) < probability ? low : high) = middle;
  }
  return (low + high) / 2;
}

MeanInterval mean_interval(const std::vector<double>& values, double confidence) {
  MeanInterval out;
  out.n = static_cast<int64_t>(values.size());
  const auto n = static_cast<double>(values.size());
  for (const double value : values) out.mean += value / n;
  double squares = 0;
  for (const double value : values) squares += (value - out.mean) * (value - out.mean);
  out.sd = std::sqrt(squares / (n - 1));
  const double error = out.sd / std::sqrt(n);
  const double half = student_quantile(confidence, out.n - 1) * error;
  out.low = out.mean - half;
  out.high = out.mean + half;
  if (error > 0)
    out.p = 1 - student_probability(std::abs(out.mean) / error, out.n - 1);
  else
    out.p = out.mean == 0 ? 1 : 0;
  return out;
}

}  // namespace strand::run_report
