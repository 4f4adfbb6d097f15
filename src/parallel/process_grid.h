#pragma once
// The processes of a run. N ranks, each with sequences of its own. Every EP consecutive ranks form an *expert group*:
// rank e of it holds experts [e·E/EP, (e+1)·E/EP) of each layer. The N/EP ranks that hold the same experts are
// *replicas* of each other; all other weights are on all N.
//
//   N = 4, EP = 2:   rank           0        1        2        3
//                    expert group   {0, 1}   {0, 1}   {2, 3}   {2, 3}
//                    replicas       {0, 2}   {1, 3}   {0, 2}   {1, 3}
#include <functional>
#include <memory>
#include <string>

#include "parallel/communicator.h"
#include "parallel/control_channel.h"
#include "parallel/progress.h"

namespace strand {

/// The size of a grid, and a place in it.
struct GridShape {
  int ranks = 1;            ///< N
  int expert_parallel = 1;  ///< EP, divides N
  int rank = 0;

  int replicas() const { return ranks / expert_parallel; }
  int expert_rank() const { return rank % expert_parallel; }
  int replica_rank() const { return rank / expert_parallel; }
};

/// "4 ranks, expert_parallel 2"
std::string layout_text(const GridShape& shape);

class ProcessGrid {
 public:
  /// One process.
  ProcessGrid();
  /// One rank of a grid that exists on paper, for counting. Throws Error when expert_parallel does not divide ranks.
  static std::unique_ptr<ProcessGrid> counting(const GridShape& shape);

  /// `control`: of all ranks.
  ProcessGrid(std::unique_ptr<ControlChannel> control, std::unique_ptr<Communicator> world,
              std::unique_ptr<Communicator> experts, std::unique_ptr<Communicator> replicas);

  ControlChannel& control() { return *control_; }  ///< the hosts' messages, among all ranks
  Communicator& world() { return *world_; }
  Communicator& experts() { return *experts_; }    ///< this rank's expert group
  Communicator& replicas() { return *replicas_; }  ///< the ranks with the same experts
  int rank() const { return world_->rank(); }
  int ranks() const { return world_->size(); }
  int expert_parallel() const { return experts_->size(); }
  GridShape shape() const { return {ranks(), expert_parallel(), rank()}; }

  /// One of the three groups on this rank: its size, this rank's place in it, and the run's rank of its first member.
  struct Group {
    int size = 1, rank = 0, first = 0;
  };
  /// Each communicator becomes what `replace` makes for its group: world, experts, replicas.
  void replace_communicators(const std::function<std::unique_ptr<Communicator>(const Group&)>& replace);

  /// Of all three groups, and the control channel.
  TrafficCounts traffic() const;
  /// Communicator::end_section and collect_times, of all three groups.
  void end_section();
  TrafficCounts collect_times();
  /// Where this rank is, for messages about it.
  Progress& progress() { return progress_; }

 private:
  std::unique_ptr<ControlChannel> control_;
  std::unique_ptr<Communicator> world_, experts_, replicas_;
  Progress progress_;
};

/// Throws Error saying what divides what unless such a grid can be.
void require_grid(int64_t ranks, int64_t expert_parallel);

}  // namespace strand
