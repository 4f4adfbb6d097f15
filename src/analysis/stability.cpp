#include "analysis/stability.h"

#include <algorithm>

#include "analysis/uniform_routing.h"
#include "core/error.h"

namespace strand {

Agreement agreement(const Selections& one, const Selections& other) {
  require(one.tokens() == other.tokens() && one.top_k() == other.top_k() && one.experts() == other.experts(),
          "routings of {} tokens, {} of {} experts, and of {} tokens, {} of {} experts, are compared", one.tokens(),
          one.top_k(), one.experts(), other.tokens(), other.top_k(), other.experts());
  int64_t first = 0, common = 0, equal = 0;
  for (int64_t t = 0; t < one.tokens(); ++t) {
    const auto a = one[t], b = other[t];
    const int64_t shared =
        std::count_if(a.begin(), a.end(), [&](uint16_t e) { return std::find(b.begin(), b.end(), e) != b.end(); });
    first += a[0] == b[0];
    common += shared;
    equal += shared == one.top_k();
  }
  const auto tokens = static_cast<double>(one.tokens());
  return {static_cast<double>(first) / tokens,
          static_cast<double>(common) / (tokens * static_cast<double>(one.top_k())),
          static_cast<double>(equal) / tokens};
}

Agreement chance_agreement(int64_t experts, int64_t top_k) {
  const auto e = static_cast<double>(experts);
  return {1 / e, static_cast<double>(top_k) / e, 1 / choose(experts, top_k)};
}

}  // namespace strand
