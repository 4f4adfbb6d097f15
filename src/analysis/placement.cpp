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

/// J of each pair of neighbouring layers.
std::vector<CountMatrix> joints_of(const Trace& trace, Sequences sequences) {
  std::vector<CountMatrix> joints;
  for (int64_t layer = 1; layer < trace.layer_count(); ++layer) {
    const Selections lower = trace.layer(layer - 1), upper = trace.layer(layer);
    CountMatrix& joint = joints.emplace_back(trace.num_experts, trace.num_experts);
    for_each_token(trace, sequences, [&](int64_t, int64_t t) {
      for (const uint16_t e : lower[t])
        for (const uint16_t v : upper[t]) ++joint.at(e, v);
    });
  }
  return joints;
}

/// What placing each expert of a layer on each rank gains: [E, R], J with the experts of a neighbour that are there.
class Gains {
 public:
  Gains(int64_t experts, int64_t ranks)
      : experts_(experts), ranks_(ranks), gain_(static_cast<size_t>(experts * ranks)) {}

  void add_below(const CountMatrix& joint, const std::vector<int64_t>& below) {
    for (int64_t e = 0; e < experts_; ++e)
      for (int64_t v = 0; v < experts_; ++v) at(v, below[static_cast<size_t>(e)]) += joint.at(e, v);
  }
  void add_above(const CountMatrix& joint, const std::vector<int64_t>& above) {
    for (int64_t e = 0; e < experts_; ++e)
      for (int64_t v = 0; v < experts_; ++v) at(e, above[static_cast<size_t>(v)]) += joint.at(e, v);
  }
  int64_t of(const std::vector<int64_t>& rank_of) const {
    int64_t sum = 0;
    for (int64_t e = 0; e < experts_; ++e)
      sum += gain_[static_cast<size_t>(e * ranks_ + rank_of[static_cast<size_t>(e)])];
    return sum;
  }
  /// The ranks that gain most: an assignment of experts to the E/R places of each rank.
  std::vector<int64_t> best_ranks() const {
    const int64_t places = experts_ / ranks_;
    std::vector<double> weights;
    weights.reserve(static_cast<size_t>(experts_ * experts_));
    for (int64_t e = 0; e < experts_; ++e)
      for (int64_t place = 0; place < experts_; ++place)
        weights.push_back(static_cast<double>(gain_[static_cast<size_t>(e * ranks_ + place / places)]));
    std::vector<int64_t> rank_of = best_assignment(weights, experts_, experts_).column_of_row;
    for (int64_t& place : rank_of) place /= places;
    return rank_of;
  }

 private:
  int64_t& at(int64_t expert, int64_t rank) { return gain_[static_cast<size_t>(expert * ranks_ + rank)]; }
  int64_t experts_, ranks_;
  std::vector<int64_t> gain_;
};

Placement placed_upwards(const std::vector<CountMatrix>& joints, int64_t experts, int64_t ranks) {
  Placement placement = round_robin_placement(1, experts, ranks);
  for (const CountMatrix& joint : joints) {
    Gains gains(experts, ranks);
    gains.add_below(joint, placement.back());
    placement.push_back(gains.best_ranks());
  }
  return placement;
}

/// Places a layer anew beside its neighbours. Returns whether J on one rank has grown.
bool place_again(Placement& placement, const std::vector<CountMatrix>& joints, size_t layer, int64_t ranks) {
  Gains gains(static_cast<int64_t>(placement[layer].size()), ranks);
  if (layer > 0) gains.add_below(joints[layer - 1], placement[layer - 1]);
  if (layer < joints.size()) gains.add_above(joints[layer], placement[layer + 1]);
  std::vector<int64_t> best = gains.best_ranks();
  if (gains.of(best) <= gains.of(placement[layer])) return false;
  placement[layer] = std::move(best);
  return true;
}

void require_divides(const Trace& trace, int64_t ranks) {
  require(ranks >= 1 && trace.num_experts % ranks == 0, "{} experts do not divide over {} ranks", trace.num_experts,
          ranks);
}
}  // namespace

Placement round_robin_placement(int64_t layers, int64_t experts, int64_t ranks) {
  std::vector<int64_t> layer;
  for (int64_t e = 0; e < experts; ++e) layer.push_back(e % ranks);
  return Placement(static_cast<size_t>(layers), layer);
}

Placement coupled_placement(const Trace& trace, int64_t ranks, Sequences sequences) {
  require_divides(trace, ranks);
  return placed_upwards(joints_of(trace, sequences), trace.num_experts, ranks);
}

SweptPlacement swept_placement(const Trace& trace, int64_t ranks, Sequences sequences) {
  require_divides(trace, ranks);
  const std::vector<CountMatrix> joints = joints_of(trace, sequences);
  SweptPlacement swept{.placement = placed_upwards(joints, trace.num_experts, ranks)};
  const size_t layers = swept.placement.size();
  // J on one rank grows by at least 1 in every sweep but the last, and cannot exceed all of J.
  for (bool upwards = false;; upwards = !upwards) {
    bool gained = false;
    for (size_t i = 0; i < layers; ++i)
      gained |= place_again(swept.placement, joints, upwards ? i : layers - 1 - i, ranks);
    if (!gained) return swept;
    ++swept.sweeps;
  }
}

int64_t placed_together(const Trace& trace, const Placement& placement, Sequences sequences) {
  const std::vector<CountMatrix> joints = joints_of(trace, sequences);
  int64_t together = 0;
  for (size_t layer = 0; layer < joints.size(); ++layer)
    for (int64_t e = 0; e < trace.num_experts; ++e)
      for (int64_t v = 0; v < trace.num_experts; ++v)
        if (placement[layer][static_cast<size_t>(e)] == placement[layer + 1][static_cast<size_t>(v)])
          together += joints[layer].at(e, v);
  return together;
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
