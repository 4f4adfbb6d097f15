#include "analysis/coactivation.h"

#include <algorithm>

namespace strand {

double coactivation_peak(const CountMatrix& pairs) {
  double sum = 0;
  int64_t busy = 0;
  for (int64_t e = 0; e < pairs.rows; ++e) {
    if (pairs.at(e, e) == 0) continue;
    ++busy;
    int64_t most = 0;
    for (int64_t v = 0; v < pairs.columns; ++v)
      if (v != e) most = std::max(most, pairs.at(e, v));
    sum += static_cast<double>(most) / static_cast<double>(pairs.at(e, e));
  }
  return busy > 0 ? sum / static_cast<double>(busy) : 0;
}

}  // namespace strand
