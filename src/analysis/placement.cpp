#include "analysis/placement.h"

#include <algorithm>

#include "analysis/assignment.h"
#include "core/error.h"

namespace strand {

namespace {
bool taken(Sequences sequences, int64_t sequence) {
  switch (sequences) {
    case Sequences::all:
      return true;
    case Sequences::even:
      return sequence % 2 == 0;
    case Sequences::odd:
      return sequence % 2 == 1;
  }
  return false;
}

/// body(sequence, token) for each token that is looked at.
template <typename Body>
void for_each_token(const Trace& trace, Sequences sequences, const Body& body) {
  const int64_t length = trace.sequence_length, count = trace.token_count() / length;
  for (int64_t s = 0; s < count; ++s) {
    if (!taken(sequences, s)) continue;
    for (int64_t t = s * length; t < (s + 1) * length; ++t) body(s, t);
  }
}

/// The ranks of a layer's experts that go best with the layer below: an assignment of experts to the E/R places of each
/// rank.
std::vector<int64_t> best_ranks(const CountMatrix& joint, const std::vector<int64_t>& below, int64_t ranks) {
  const int64_t experts = joint.columns, places = experts / ranks;
  std::vector<double> gain(static_cast<size_t>(experts * experts));
  for (int64_t v = 0; v < experts; ++v) {
    std::vector<double> of_rank(static_cast<size_t>(ranks));
    for (int64_t e = 0; e < joint.rows; ++e)
      of_rank[static_cast<size_t>(below[static_cast<size_t>(e)])] += static_cast<double>(joint.at(e, v));
    for (int64_t place = 0; place < experts; ++place)
      gain[static_cast<size_t>(v * experts + place)] = of_rank[static_cast<size_t>(place / places)];
  }
  std::vector<int64_t> rank_of = best_assignment(gain, experts, experts).column_of_row;
  for (int64_t& place : rank_of) place /= places;
  return rank_of;
}
}  // namespace

Placement round_robin_placement(int64_t layers, int64_t experts, int64_t ranks) {
  std::vector<int64_t> layer;
  for (int64_t e = 0; e < experts; ++e) layer.push_back(e % ranks);
  return Placement(static_cast<size_t>(layers), layer);
}

Placement coupled_placement(const Trace& trace, int64_t ranks, Sequences sequences) {
  require(ranks >= 1 && trace.num_experts % ranks == 0, "{} experts do not divide over {} ranks", trace.num_experts,
          ranks);
  Placement placement = round_robin_placement(1, trace.num_experts, ranks);
  for (int64_t layer = 1; layer < trace.layer_count(); ++layer) {
    const Selections lower = trace.layer(layer - 1), upper = trace.layer(layer);
    CountMatrix joint(trace.num_experts, trace.num_experts);
    for_each_token(trace, sequences, [&](int64_t, int64_t t) {
      for (const uint16_t e : lower[t])
        for (const uint16_t v : upper[t]) ++joint.at(e, v);
    });
    placement.push_back(best_ranks(joint, placement.back(), ranks));
  }
  return placement;
}

std::vector<int64_t> home_ranks(const Trace& trace, const Placement& placement, int64_t ranks, Sequences sequences) {
  const int64_t count = trace.token_count() / trace.sequence_length;
  CountMatrix wishes(count, ranks);
  const Selections first = trace.layer(0);
  for_each_token(trace, sequences, [&](int64_t s, int64_t t) {
    for (const uint16_t e : first[t]) ++wishes.at(s, placement[0][e]);
  });
  std::vector<int64_t> order;
  for (int64_t s = 0; s < count; ++s)
    if (taken(sequences, s)) order.push_back(s);
  const auto best = [&](int64_t s) {
    int64_t most = 0;
    for (int64_t r = 0; r < ranks; ++r) most = std::max(most, wishes.at(s, r));
    return most;
  };
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return best(a) > best(b); });
  const int64_t capacity = (static_cast<int64_t>(order.size()) + ranks - 1) / ranks;
  std::vector<int64_t> home(static_cast<size_t>(count), -1), used(static_cast<size_t>(ranks));
  for (const int64_t s : order) {
    int64_t chosen = -1;
    for (int64_t r = 0; r < ranks; ++r) {
      if (used[static_cast<size_t>(r)] == capacity) continue;
      if (chosen < 0 || wishes.at(s, r) > wishes.at(s, chosen)) chosen = r;
    }
    ++used[static_cast<size_t>(chosen)];
    home[static_cast<size_t>(s)] = chosen;
  }
  return home;
}

Locality locality(const Trace& trace, const Placement& placement, int64_t ranks, Sequences sequences) {
  const std::vector<int64_t> home = home_ranks(trace, placement, ranks, sequences);
  int64_t tokens = 0, local = 0, foreign = 0, together = 0;
  std::vector<bool> visited(static_cast<size_t>(ranks));
  for_each_token(trace, sequences, [&](int64_t s, int64_t t) {
    ++tokens;
    const int64_t here = home[static_cast<size_t>(s)];
    for (int64_t layer = 0; layer < trace.layer_count(); ++layer) {
      const std::vector<int64_t>& rank_of = placement[static_cast<size_t>(layer)];
      visited.assign(visited.size(), false);
      for (const uint16_t e : trace.layer(layer)[t]) {
        const int64_t rank = rank_of[e];
        local += rank == here;
        if (rank != here && !visited[static_cast<size_t>(rank)]) ++foreign;
        visited[static_cast<size_t>(rank)] = true;
        if (layer == 0) continue;
        for (const uint16_t below : trace.layer(layer - 1)[t])
          together += placement[static_cast<size_t>(layer - 1)][below] == rank;
      }
    }
  });
  if (tokens == 0) return {};
  const auto t = static_cast<double>(tokens), l = static_cast<double>(trace.layer_count());
  const auto k = static_cast<double>(trace.top_k);
  return {.local = static_cast<double>(local) / (t * l * k),
          .path = l > 1 ? static_cast<double>(together) / (t * (l - 1) * k * k) : 0,
          .foreign_ranks_a_token = static_cast<double>(foreign) / t};
}

}  // namespace strand
