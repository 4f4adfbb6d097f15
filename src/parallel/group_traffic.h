#pragma once
// Traffic by the group of ranks in which it travels.
#include <array>

#include "parallel/process_grid.h"

namespace strand {

enum class RankGroup : uint8_t { world, experts, replicas };
constexpr int rank_groups = 3;

constexpr const char* to_string(RankGroup group) {
  constexpr const char* names[rank_groups] = {"world", "expert group", "replicas"};
  return names[static_cast<size_t>(group)];
}

/// How many ranks a group of this kind has.
inline int size_of(RankGroup group, const GridShape& grid) {
  return group == RankGroup::world ? grid.ranks : group == RankGroup::experts ? grid.expert_parallel : grid.replicas();
}

struct GroupTraffic {
  std::array<TrafficCounts, rank_groups> group;

  GroupTraffic() = default;
  /// Everything that one rank has booked so far. The control channel is among all ranks.
  explicit GroupTraffic(ProcessGrid& grid)
      : group{grid.world().traffic(), grid.experts().traffic(), grid.replicas().traffic()} {
    (*this)[RankGroup::world][Traffic::control] += grid.control().traffic();
  }

  TrafficCounts& operator[](RankGroup g) { return group[static_cast<size_t>(g)]; }
  const TrafficCounts& operator[](RankGroup g) const { return group[static_cast<size_t>(g)]; }
  GroupTraffic& operator-=(const GroupTraffic& other) {
    for (size_t g = 0; g < group.size(); ++g) group[g] -= other.group[g];
    return *this;
  }
  TrafficCounts total() const {
    TrafficCounts sum;
    for (const TrafficCounts& counts : group) sum += counts;
    return sum;
  }
};

}  // namespace strand
