#include "analysis/repetition.h"

#include <algorithm>

#include "analysis/uniform_routing.h"

namespace strand {

Repetition repetition(const Selections& selections, int64_t sequence_length) {
  int64_t pairs = 0, same = 0, common = 0;
  for (int64_t t = 0; t + 1 < selections.tokens(); ++t) {
    if ((t + 1) % sequence_length == 0) continue;  // the next token begins another sequence
    const auto a = selections[t], b = selections[t + 1];
    ++pairs;
    same += a[0] == b[0];
    common += std::find_first_of(a.begin(), a.end(), b.begin(), b.end()) != a.end();
  }
  if (pairs == 0) return {};
  return {static_cast<double>(same) / static_cast<double>(pairs),
          static_cast<double>(common) / static_cast<double>(pairs)};
}

Repetition chance_repetition(int64_t experts, int64_t top_k) {
  return {1 / static_cast<double>(experts), 1 - choose(experts - top_k, top_k) / choose(experts, top_k)};
}

}  // namespace strand
