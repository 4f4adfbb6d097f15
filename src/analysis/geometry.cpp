#include "analysis/geometry.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace strand {

namespace {
double inner(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// 0 where a vector is 0.
double ratio(double product, double norms) {
  return norms > 0 ? product / norms : 0;
}
}  // namespace

std::vector<double> row_norms(const RowsView& rows) {
  const int64_t count = rows.rows();
  std::vector<double> norms(static_cast<size_t>(count));
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; ++i) norms[static_cast<size_t>(i)] = std::sqrt(inner(rows[i], rows[i]));
  return norms;
}

InputCosine& InputCosine::operator+=(const InputCosine& other) {
  same_token += other.same_token;
  other_token += other.other_token;
  return *this;
}

InputCosine summed_input_cosine(const RowsView& lower, const std::vector<double>& lower_norms, const RowsView& upper,
                                const std::vector<double>& upper_norms) {
  const int64_t tokens = lower.rows();
  std::vector<InputCosine> of_token(static_cast<size_t>(tokens));
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t next = t + 1 < tokens ? t + 1 : 0;
    const double norm = lower_norms[static_cast<size_t>(t)];
    of_token[static_cast<size_t>(t)] = {
        ratio(inner(lower[t], upper[t]), norm * upper_norms[static_cast<size_t>(t)]),
        ratio(inner(lower[t], upper[next]), norm * upper_norms[static_cast<size_t>(next)])};
  }
  InputCosine sum;  // in the order of the tokens, whatever the number of threads
  for (const InputCosine& cosine : of_token) sum += cosine;
  return sum;
}

ChoiceCosine& ChoiceCosine::operator+=(const ChoiceCosine& other) {
  chosen += other.chosen;
  any += other.any;
  return *this;
}

ChoiceCosine choice_cosine(std::span<const double> q, double x_norm, const std::vector<double>& router_norms,
                           std::span<const uint16_t> chosen) {
  const auto cosine = [&](size_t e) { return ratio(q[e], x_norm * router_norms[e]); };
  ChoiceCosine c{.chosen = -std::numeric_limits<double>::infinity()};
  for (const uint16_t e : chosen) c.chosen = std::max(c.chosen, cosine(e));
  for (size_t e = 0; e < q.size(); ++e) c.any += cosine(e) / static_cast<double>(q.size());
  return c;
}

RouterCosine router_cosine(const RowsView& router) {
  const std::vector<double> norms = row_norms(router);
  const int64_t experts = router.rows();
  RouterCosine c;
  for (int64_t e = 0; e < experts; ++e) {
    for (int64_t v = e + 1; v < experts; ++v) {
      const double norm = norms[static_cast<size_t>(e)] * norms[static_cast<size_t>(v)];
      const double absolute = std::abs(ratio(inner(router[e], router[v]), norm));
      c.mean += absolute;
      c.max = std::max(c.max, absolute);
    }
  }
  if (experts > 1) c.mean /= static_cast<double>(experts * (experts - 1) / 2);
  return c;
}

}  // namespace strand
