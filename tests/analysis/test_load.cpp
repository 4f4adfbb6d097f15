// Load, use together, repetition, stability and guesses: hand-made routings and floors that others have measured.
#include <algorithm>
#include <cmath>

#include "analysis/coactivation.h"
#include "analysis/load.h"
#include "analysis/lookahead.h"
#include "analysis/repetition.h"
#include "analysis/uniform_routing.h"
#include "tests/analysis/traces.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

TEST_CASE("Load from counts worked out by hand") {
  const Load load = measure_load({6, 0, 2, 4});  // mean 3
  CHECK(load.max_violation == Approx(1));
  CHECK(load.min_violation == Approx(1));
  CHECK(load.dead == Approx(0.25));
  CHECK(load.cv == Approx(std::sqrt((9 + 9 + 1 + 1) / 4.0) / 3));
  // Σ over ordered pairs of |difference| = 2 (6 + 4 + 2 + 2 + 4 + 2) = 40, over 2 · 16 · 3.
  CHECK(load.gini == Approx(40.0 / 96));
  const double h = -(0.5 * std::log(0.5) + std::log(1.0 / 6) / 6 + std::log(1.0 / 3) / 3);
  CHECK(load.diversity == Approx(std::exp(h) / 4));
  REQUIRE(load.concentration.size() == 4);
  CHECK(load.concentration[0] == Approx(0.5));
  CHECK(load.concentration[1] == Approx(10.0 / 12));
  CHECK(load.concentration[2] == Approx(1));
  CHECK(load.concentration[3] == Approx(1));
  CHECK(max_rank_load({6, 0, 2, 4}, 2) == Approx(1));
  CHECK(max_rank_load({6, 0, 2, 4}, 4) == Approx(2));
}

TEST_CASE("Even load is at its ideal values") {
  const Load load = measure_load({5, 5, 5, 5, 5});
  CHECK(load.max_violation == 0);
  CHECK(load.min_violation == 0);
  CHECK(load.cv == 0);
  CHECK(load.gini == Approx(0).margin(1e-15));
  CHECK(load.diversity == Approx(1));
}

TEST_CASE("Numbers of ranks are the powers of two that divide") {
  CHECK(rank_numbers(16) == std::vector<int64_t>{2, 4, 8, 16});
  CHECK(rank_numbers(12) == std::vector<int64_t>{2, 4});
  CHECK(rank_numbers(5).empty());
}

TEST_CASE("Violations of uniform routing are what independent simulations gave") {
  // Experts, active, tokens: MaxVio and CV, means of 60 simulations with NumPy. The margins are three standard
  // deviations of a mean of four draws, by the same simulations, rounded up.
  const auto floor = [](int64_t experts, int64_t top_k, int64_t tokens) {
    Load mean;
    for_each_uniform_draw(tokens, 1, experts, top_k, [&](const Trace& u) {
      const Load load = measure_load(expert_counts(u.layer(0)));
      mean.max_violation += load.max_violation / uniform_draws;
      mean.cv += load.cv / uniform_draws;
    });
    return mean;
  };
  CHECK(floor(16, 2, 2048).max_violation == Approx(0.106).margin(0.05));
  CHECK(floor(16, 2, 2048).cv == Approx(0.056).margin(0.017));
  CHECK(floor(64, 4, 2048).max_violation == Approx(0.208).margin(0.07));
  CHECK(floor(64, 4, 2048).cv == Approx(0.086).margin(0.013));
  CHECK(floor(64, 4, 16384).max_violation == Approx(0.070).margin(0.02));
  CHECK(floor(64, 4, 16384).cv == Approx(0.030).margin(0.005));
}

TEST_CASE("Uniform routing draws K different experts, each as often, and layers of their own") {
  const Trace u = uniform_routing(20000, 2, 6, 3, 1);
  CHECK_NOTHROW(check_trace(u, "uniform"));
  // Each expert: 10,000 expected of 20,000 draws with probability 1/2, standard deviation 71.
  for (const int64_t n : expert_counts(u.layer(1))) CHECK(std::abs(n - 10000) < 300);
  // Each place is uniform too: 3,333 expected, standard deviation 53.
  for (const int64_t n : top_1_joint_counts(u.layer(0), u.layer(0)).column_sums()) CHECK(std::abs(n - 3333) < 220);
  CHECK(agreement(u.layer(0), u.layer(1)).top_k == Approx(0.5).margin(0.01));
}

TEST_CASE("Experts used together") {
  // 0 always with 1; 2 with 1 or 3, three to one.
  const Trace trace = make_trace(8, 1, 5, 8, [](int64_t t, int64_t) -> Experts {
    if (t < 4) return {1, 0};
    return {2, static_cast<uint16_t>(t == 7 ? 3 : 1)};
  });
  const CountMatrix pairs = pair_counts(trace.layer(0));
  CHECK(pairs.at(0, 1) == 4);
  CHECK(pairs.at(1, 0) == 4);
  CHECK(pairs.at(1, 2) == 3);
  CHECK(pairs.at(1, 1) == 7);
  CHECK(pairs.at(4, 4) == 0);
  // Rows: 0 → 1, 1 → 4/7, 2 → 3/4, 3 → 1; expert 4 is idle.
  CHECK(coactivation_peak(pairs) == Approx((1 + 4.0 / 7 + 0.75 + 1) / 4));
}

TEST_CASE("Repetition counts neighbours inside sequences only") {
  // Sequences of 3: top-1 0 0 1 | 1 1 0; second choice 2 3 0 | 2 3 2.
  constexpr uint16_t first[] = {0, 0, 1, 1, 1, 0}, second[] = {2, 3, 0, 2, 3, 2};
  const Trace trace = make_trace(6, 1, 4, 3, [&](int64_t t, int64_t) -> Experts { return {first[t], second[t]}; });
  const Repetition r = repetition(trace.layer(0), 3);
  CHECK(r.top_1 == Approx(2.0 / 4));
  CHECK(r.any == Approx(3.0 / 4));  // 0 2 | 0 3: yes; 0 3 | 1 0: yes; 1 2 | 1 3: yes; 1 3 | 0 2: no
  const Repetition chance = chance_repetition(8, 2);
  CHECK(chance.top_1 == Approx(0.125));
  CHECK(chance.any == Approx(1 - 15.0 / 28));  // "46 %" of eight experts and two
  CHECK(chance_repetition(3, 2).any == 1);
}

TEST_CASE("Agreement of two routings") {
  const Trace one = make_trace(4, 1, 4, 4, [](int64_t t, int64_t) -> Experts {
    return {static_cast<uint16_t>(t % 4), static_cast<uint16_t>((t + 1) % 4)};
  });
  const Trace other = make_trace(4, 1, 4, 4, [](int64_t t, int64_t) -> Experts {
    if (t == 0) return {0, 1};
    if (t == 1) return {2, 1};
    if (t == 2) return {2, 1};
    return {1, 2};
  });
  const Agreement a = agreement(one.layer(0), other.layer(0));
  CHECK(a.top_1 == Approx(2.0 / 4));
  CHECK(a.top_k == Approx((2 + 2 + 1 + 0) / 8.0));
  CHECK(a.set == Approx(2.0 / 4));
  CHECK(agreement(one.layer(0), one.layer(0)).set == 1);
  const Agreement chance = chance_agreement(16, 2);
  CHECK(chance.top_1 == Approx(1.0 / 16));
  CHECK(chance.top_k == Approx(1.0 / 8));
  CHECK(chance.set == Approx(1.0 / 120));
}

TEST_CASE("Two uniform routings agree as often as chance says") {
  const Trace u = uniform_routing(50000, 2, 8, 3, 3);
  const Agreement got = agreement(u.layer(0), u.layer(1)), chance = chance_agreement(8, 3);
  // Standard deviations of the shares: below 0.0015.
  CHECK(got.top_1 == Approx(chance.top_1).margin(0.006));
  CHECK(got.top_k == Approx(chance.top_k).margin(0.006));
  CHECK(got.set == Approx(chance.set).margin(0.003));
}

TEST_CASE("Mean ranks, and guesses of the busiest experts") {
  CHECK(mean_ranks({10, 30, 10, 20}) == std::vector<double>{1.5, 4, 1.5, 3});
  const Trace real = make_trace(6, 1, 9, 6, [](int64_t t, int64_t) -> Experts {
    return {static_cast<uint16_t>(t < 3 ? 4 : t < 5 ? 7 : 0)};  // counts: 4 → 3, 7 → 2, 0 → 1
  });
  const Trace guess = make_trace(6, 1, 9, 6, [](int64_t t, int64_t) -> Experts {
    return {static_cast<uint16_t>(t < 3 ? 4 : 1)};  // 4 → 3, 1 → 3
  });
  const Lookahead found = lookahead(guess.layer(0), real.layer(0));
  CHECK(found.tokens.top_1 == Approx(0.5));
  CHECK(found.count_cosine == Approx(9 / std::sqrt(18.0 * 14)));
  CHECK(hottest_count(9) == 2);
  CHECK(found.hottest == Approx(0.5));  // {1, 4} and {4, 7}
  CHECK(lookahead(real.layer(0), real.layer(0)).rank_correlation == Approx(1));
}
