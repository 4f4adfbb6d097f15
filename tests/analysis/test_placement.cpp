// Placement on ranks, for routings made by hand and by trying all placements.
#include <algorithm>
#include <numeric>

#include "analysis/placement.h"
#include "analysis/uniform_routing.h"
#include "tests/analysis/traces.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
/// J on one rank between two layers, computed from its definition.
int64_t together(const Trace& trace, const std::vector<int64_t>& lower, const std::vector<int64_t>& upper) {
  int64_t count = 0;
  for (int64_t t = 0; t < trace.token_count(); ++t)
    for (const uint16_t e : trace.layer(0)[t])
      for (const uint16_t v : trace.layer(1)[t]) count += lower[e] == upper[v];
  return count;
}
}  // namespace

TEST_CASE("The placement of a layer is the best of all placements") {
  const int64_t ranks = GENERATE(2, 3);
  const Trace trace = uneven_trace(200, 2, 6, 2, 10, 11);
  const Placement placed = coupled_placement(trace, ranks, Sequences::all);
  REQUIRE(placed.size() == 2);
  CHECK(placed[0] == round_robin_placement(1, 6, ranks)[0]);
  std::vector<int64_t> layer;
  for (int64_t e = 0; e < 6; ++e) layer.push_back(e * ranks / 6);
  int64_t best = 0;
  do {
    best = std::max(best, together(trace, placed[0], layer));
  } while (std::next_permutation(layer.begin(), layer.end()));
  CHECK(together(trace, placed[0], placed[1]) == best);
  for (int64_t r = 0; r < ranks; ++r) CHECK(std::count(placed[1].begin(), placed[1].end(), r) == 6 / ranks);
}

TEST_CASE("Layers that are coupled by a permutation can be placed so that nothing travels") {
  // Sequence s uses experts s mod 4 in layer 0, and what a permutation makes of them above.
  constexpr uint16_t pi[] = {2, 0, 3, 1};
  const Trace trace = make_trace(80, 3, 4, 5, [&](int64_t t, int64_t layer) -> Experts {
    auto e = static_cast<uint16_t>(t / 5 % 4);
    for (int64_t l = 0; l < layer; ++l) e = pi[e];
    return {e};
  });
  const Placement placed = coupled_placement(trace, 4, Sequences::all);
  const Locality l = locality(trace, placed, 4, Sequences::all);
  CHECK(l.local == 1);
  CHECK(l.path == 1);
  CHECK(l.foreign_ranks_a_token == 0);
  // With experts where they are by number, only layer 0 is at home: pi has no fixed point, and neither has pi twice.
  const Locality robin = locality(trace, round_robin_placement(3, 4, 4), 4, Sequences::all);
  CHECK(robin.local == Approx(1.0 / 3));
  CHECK(robin.path == 0);
  CHECK(robin.foreign_ranks_a_token == Approx(2));
}

TEST_CASE("Homes are shared out evenly, to those first who gain most") {
  // Four sequences of 4 tokens, two ranks: all like rank 0 best, with 4, 3, 2 and 3 tokens.
  constexpr int likes[] = {4, 3, 2, 3};
  const Trace trace = make_trace(16, 1, 2, 4, [&](int64_t t, int64_t) -> Experts {
    return {static_cast<uint16_t>(t % 4 < likes[t / 4] ? 0 : 1)};
  });
  const Placement robin = round_robin_placement(1, 2, 2);
  CHECK(home_ranks(trace, robin, 2, Sequences::all) == std::vector<int64_t>{0, 0, 1, 1});
  CHECK(home_ranks(trace, robin, 2, Sequences::odd) == std::vector<int64_t>{-1, 0, -1, 1});
  CHECK(locality(trace, robin, 2, Sequences::all).local == Approx((4 + 3 + 2 + 1) / 16.0));
}

TEST_CASE("Uniform routing is local as often as chance says, wherever experts are") {
  Trace trace = uniform_routing(64000, 2, 8, 2, 5);
  trace.sequence_length = 64;
  trace.domains = {{"uniform", 1000}};
  const Locality l = locality(trace, coupled_placement(trace, 4, Sequences::even), 4, Sequences::odd);
  // Layer 0 is above chance, because homes are chosen by it: the largest of four shares of 128 selections.
  CHECK(l.local > 0.25);
  CHECK(l.local < 0.30);
  CHECK(l.path == Approx(0.25).margin(0.01));
}

namespace {
/// A trace whose tokens have experts (a, b, c) in three layers, `count` times each.
struct Paths {
  uint16_t a, b, c;
  int64_t count;
};
Trace trace_of(const std::vector<Paths>& paths) {
  std::vector<Experts> tokens;
  for (const Paths& p : paths)
    for (int64_t i = 0; i < p.count; ++i) tokens.push_back({p.a, p.b, p.c});
  return make_trace(static_cast<int64_t>(tokens.size()), 3, 4, 2, [&](int64_t t, int64_t layer) -> Experts {
    return {tokens[static_cast<size_t>(t)][static_cast<size_t>(layer)]};
  });
}

/// J on one rank of three layers, from its definition.
int64_t together_in_three(const Trace& trace, const Placement& placement) {
  int64_t count = 0;
  for (int64_t t = 0; t < trace.token_count(); ++t)
    for (int64_t l = 0; l < 2; ++l)
      for (const uint16_t e : trace.layer(l)[t])
        for (const uint16_t v : trace.layer(l + 1)[t])
          count += placement[static_cast<size_t>(l)][e] == placement[static_cast<size_t>(l) + 1][v];
  return count;
}

/// The most J on one rank of all placements of 4 experts on 2 ranks in three layers.
int64_t best_of_all(const Trace& trace) {
  const std::vector<std::vector<int64_t>> halves = {{0, 0, 1, 1}, {0, 1, 0, 1}, {0, 1, 1, 0},
                                                    {1, 0, 0, 1}, {1, 0, 1, 0}, {1, 1, 0, 0}};
  int64_t best = 0;
  for (const auto& a : halves)
    for (const auto& b : halves)
      for (const auto& c : halves) best = std::max(best, together_in_three(trace, {a, b, c}));
  return best;
}
}  // namespace

TEST_CASE("Sweeps down and up find what one sweep upwards cannot") {
  // Experts 0 and 1 of the middle layer lead to 0 and 1 of the upper one, and 2 and 3 to 2 and 3. From the lower layer
  // comes a weak wish to stay with the expert of the same number, which round-robin puts apart: 0 with 2, 1 with 3.
  std::vector<Paths> paths;
  for (uint16_t below = 0; below < 4; ++below)
    for (uint16_t middle = 0; middle < 4; ++middle) {
      const auto first = static_cast<uint16_t>(middle / 2 * 2);
      const int64_t count = below == middle ? 8 : 4;
      // More from the outer ones of the middle layer, so that no two placements are equally good.
      paths.push_back({below, middle, first, count + (middle % 3 == 0 ? 2 : 0)});
      paths.push_back({below, middle, static_cast<uint16_t>(first + 1), count + (middle % 3 == 0 ? 2 : 0)});
    }
  const Trace trace = trace_of(paths);
  const Placement one = coupled_placement(trace, 2, Sequences::all);
  const SweptPlacement swept = swept_placement(trace, 2, Sequences::all);
  CHECK(placed_together(trace, one, Sequences::all) == together_in_three(trace, one));
  CHECK(together_in_three(trace, one) < best_of_all(trace));
  CHECK(together_in_three(trace, swept.placement) == best_of_all(trace));
  CHECK(swept.sweeps > 1);
  for (const auto& layer : swept.placement) CHECK(std::count(layer.begin(), layer.end(), 0) == 2);
}

TEST_CASE("After the sweeps no placement of one layer alone is better, and none is worse than after one sweep") {
  for (const uint64_t seed : {1, 2, 3, 4, 5}) {
    const Trace trace = uneven_trace(300, 3, 4, 2, 10, seed);
    const SweptPlacement swept = swept_placement(trace, 2, Sequences::all);
    const int64_t found = together_in_three(trace, swept.placement);
    CHECK(found >= together_in_three(trace, coupled_placement(trace, 2, Sequences::all)));
    for (size_t layer = 0; layer < 3; ++layer) {
      Placement changed = swept.placement;
      std::vector<int64_t>& ranks = changed[layer];
      std::sort(ranks.begin(), ranks.end());
      do {
        CHECK(together_in_three(trace, changed) <= found);
      } while (std::next_permutation(ranks.begin(), ranks.end()));
    }
  }
}
