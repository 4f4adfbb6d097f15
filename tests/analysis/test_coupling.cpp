// Coupling: traces with known answers, all permutations, and floors that others have measured.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "analysis/coupling.h"
#include "analysis/uniform_routing.h"
#include "tests/analysis/traces.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
/// Computes all fields of Coupling from their definitions, token by token, and κ over all permutations.
CouplingScalars by_definition(const Selections& lower, const Selections& upper) {
  const auto experts = static_cast<size_t>(lower.experts());
  const auto tokens = static_cast<double>(lower.tokens()), top_k = static_cast<double>(lower.top_k());
  const auto holds = [](std::span<const uint16_t> set, size_t e) {
    return std::find(set.begin(), set.end(), e) != set.end();
  };
  CouplingScalars s;
  std::vector<size_t> pi(experts);
  std::iota(pi.begin(), pi.end(), size_t{0});
  do {
    double first = 0, all = 0;
    for (int64_t t = 0; t < lower.tokens(); ++t) {
      first += pi[static_cast<size_t>(lower.top_1(t))] == static_cast<size_t>(upper.top_1(t));
      for (const uint16_t e : lower[t]) all += holds(upper[t], pi[e]);
    }
    s.kappa = std::max(s.kappa, first / tokens);
    s.kappa_top_k = std::max(s.kappa_top_k, all / (tokens * top_k));
  } while (std::next_permutation(pi.begin(), pi.end()));
  double busy = 0;
  for (size_t e = 0; e < experts; ++e) {
    double n = 0, peak = 0, lift = 0;
    for (int64_t t = 0; t < lower.tokens(); ++t) n += holds(lower[t], e);
    if (n == 0) continue;
    ++busy;
    for (size_t v = 0; v < experts; ++v) {
      double both = 0, of_v = 0;
      for (int64_t t = 0; t < lower.tokens(); ++t) {
        both += holds(lower[t], e) && holds(upper[t], v);
        of_v += holds(upper[t], v);
      }
      peak = std::max(peak, both / n / top_k);
      if (of_v > 0) lift = std::max(lift, both / n * tokens / of_v);
    }
    s.peak += peak;
    s.lift += lift;
  }
  s.peak /= busy;
  s.lift /= busy;
  return s;
}
}  // namespace

TEST_CASE("A permutation of experts couples perfectly") {
  constexpr uint16_t pi[] = {3, 0, 4, 1, 2};
  const Trace trace = make_trace(100, 2, 5, 10, [&](int64_t t, int64_t layer) -> Experts {
    const auto a = static_cast<uint16_t>(t % 5), b = static_cast<uint16_t>((t * t + 2) % 5);
    const Experts low = {a, a == b ? static_cast<uint16_t>((b + 1) % 5) : b};
    return layer == 0 ? low : Experts{pi[low[0]], pi[low[1]]};
  });
  const Coupling c = couple(trace.layer(0), trace.layer(1));
  CHECK(c.scalars.kappa == 1);
  CHECK(c.scalars.kappa_top_k == 1);
  CHECK(c.scalars.excess == Approx(1));
  CHECK(c.scalars.information == Approx(1));
  CHECK(c.scalars.independent == Approx(0.2));  // top-1 is even: five times 0.2 · 0.2
  for (int64_t e = 0; e < 5; ++e) {
    CHECK(c.matched[static_cast<size_t>(e)] == pi[e]);
    CHECK(c.conditional(e, pi[e]) == 1);
  }
}

TEST_CASE("Layers that know nothing of each other are at the baseline of their loads") {
  // All 4 · 4 combinations of top-1 in proportion to the products of the loads 4, 3, 2, 1 (of 10) and 1, 2, 3, 4.
  std::vector<std::pair<uint16_t, uint16_t>> tokens;
  for (uint16_t i = 0; i < 4; ++i)
    for (uint16_t j = 0; j < 4; ++j)
      for (int n = 0; n < (4 - i) * (j + 1); ++n) tokens.emplace_back(i, j);
  const Trace trace = make_trace(100, 2, 4, 100, [&](int64_t t, int64_t layer) -> Experts {
    const auto& token = tokens[static_cast<size_t>(t)];
    return {layer == 0 ? token.first : token.second};
  });
  const CouplingScalars s = couple(trace.layer(0), trace.layer(1)).scalars;
  CHECK(s.independent == Approx((16 + 9 + 4 + 1) / 100.0));
  CHECK(s.kappa == Approx(s.independent));
  CHECK(s.excess == Approx(0).margin(1e-12));
  CHECK(s.information == Approx(0).margin(1e-12));
  CHECK(s.lift == Approx(1));
  CHECK(s.peak == Approx(0.4));
}

TEST_CASE("Coupling is what its definition says, over all permutations") {
  const int64_t top_k = GENERATE(1, 2, 3);
  const Trace trace = uneven_trace(60, 2, 5, top_k, 10, 7);
  const CouplingScalars got = couple(trace.layer(0), trace.layer(1)).scalars;
  const CouplingScalars want = by_definition(trace.layer(0), trace.layer(1));
  CHECK(got.kappa == Approx(want.kappa));
  CHECK(got.kappa_top_k == Approx(want.kappa_top_k));
  CHECK(got.peak == Approx(want.peak));
  CHECK(got.lift == Approx(want.lift));
  CHECK(kappa(trace.layer(0), trace.layer(1)) == got.kappa);
}

TEST_CASE("Rows of the conditional sum to K, and an idle expert has none") {
  const Trace trace = make_trace(40, 2, 6, 10, [](int64_t t, int64_t layer) {
    return uneven_choice(t, layer, 5, 2, 3);  // expert 5 is idle
  });
  const Coupling c = couple(trace.layer(0), trace.layer(1));
  CHECK(c.lower_counts[5] == 0);
  for (int64_t e = 0; e < 5; ++e) {
    double sum = 0;
    for (int64_t v = 0; v < 6; ++v) sum += c.conditional(e, v);
    CHECK(sum == Approx(2));
  }
}

TEST_CASE("Information of two layers from a table worked out by hand") {
  // Joint shares 3/8, 1/8, 1/8, 3/8: I = ln 2 − H(1/4) = 0.130812 nats, and both entropies are ln 2.
  const Trace trace = make_trace(8, 2, 2, 8, [](int64_t t, int64_t layer) -> Experts {
    const int lower = t < 4 ? 0 : 1;
    return {static_cast<uint16_t>(layer == 0 ? lower : (t % 4 == 3 ? 1 - lower : lower))};
  });
  CHECK(couple(trace.layer(0), trace.layer(1)).scalars.information == Approx(0.130812 / std::log(2.0)).epsilon(1e-5));
}

TEST_CASE("A layer that always chooses the same expert has no information and no excess") {
  const Trace trace = make_trace(20, 2, 3, 10, [](int64_t, int64_t) -> Experts { return {1}; });
  const CouplingScalars s = couple(trace.layer(0), trace.layer(1)).scalars;
  CHECK(s.kappa == 1);
  CHECK(s.independent == 1);
  CHECK(s.excess == 0);
  CHECK(s.information == 0);
}

TEST_CASE("The floor of kappa under uniform routing is what independent simulations gave") {
  // Means of 60 simulations with NumPy and SciPy (linear_sum_assignment), to three digits. The
  // standard deviation of one draw is below 0.004 for 2,000 tokens and below 0.0011 for 20,000; four are averaged.
  const auto floor = [](int64_t experts, int64_t tokens) {
    double sum = 0;
    for_each_uniform_draw(tokens, 2, experts, 1, [&](const Trace& u) { sum += kappa(u.layer(0), u.layer(1)); });
    return sum / uniform_draws;
  };
  CHECK(floor(8, 2000) == Approx(0.152).margin(0.01));
  CHECK(floor(16, 2000) == Approx(0.0998).margin(0.006));
  CHECK(floor(64, 2000) == Approx(0.081).margin(0.004));
  CHECK(floor(8, 20000) == Approx(0.133).margin(0.003));
  CHECK(floor(16, 20000) == Approx(0.073).margin(0.003));
  CHECK(floor(64, 20000) == Approx(0.033).margin(0.0015));
}

TEST_CASE("A shuffled order is a permutation, the same every time, and takes coupling away") {
  const std::vector<int32_t> order = shuffled_order(2000, 9);
  CHECK(order == shuffled_order(2000, 9));
  CHECK(order != shuffled_order(2000, 10));
  std::vector<int32_t> sorted = order;
  std::sort(sorted.begin(), sorted.end());
  for (int32_t i = 0; i < 2000; ++i) REQUIRE(sorted[static_cast<size_t>(i)] == i);
  const Trace trace = make_trace(2000, 1, 8, 100, [](int64_t t, int64_t) -> Experts {
    return {static_cast<uint16_t>(random_bits(4, static_cast<uint64_t>(t)) % 8)};
  });
  const Selections layer = trace.layer(0);
  CHECK(kappa(layer, layer) == 1);
  CHECK(kappa(layer, layer.in_order(order)) == Approx(0.152).margin(0.02));
  CHECK(expert_counts(layer) == expert_counts(layer.in_order(order)));
}
