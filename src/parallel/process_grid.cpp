#include "parallel/process_grid.h"

#include <fmt/core.h>

#include "core/error.h"

namespace strand {

std::string layout_text(const GridShape& shape) {
  return fmt::format("{} ranks, expert_parallel {}", shape.ranks, shape.expert_parallel);
}

void require_grid(int64_t ranks, int64_t expert_parallel) {
  require(ranks >= 1 && expert_parallel >= 1, "{} ranks with parallel.expert_parallel {}: both are at least 1", ranks,
          expert_parallel);
  require(ranks % expert_parallel == 0,
          "parallel.expert_parallel {} does not divide the number of ranks, {}: experts are spread over groups of so "
          "many ranks",
          expert_parallel, ranks);
}

ProcessGrid::ProcessGrid(std::unique_ptr<ControlChannel> control, std::unique_ptr<Communicator> world,
                         std::unique_ptr<Communicator> experts, std::unique_ptr<Communicator> replicas)
    : control_(std::move(control)),
      world_(std::move(world)),
      experts_(std::move(experts)),
      replicas_(std::move(replicas)) {
  require(world_->size() == experts_->size() * replicas_->size(), "{} ranks in groups of {}, replicated {} times",
          world_->size(), experts_->size(), replicas_->size());
}

ProcessGrid::ProcessGrid()
    : ProcessGrid(std::make_unique<SelfControl>(), std::make_unique<SelfCommunicator>(),
                  std::make_unique<SelfCommunicator>(), std::make_unique<SelfCommunicator>()) {}

std::unique_ptr<ProcessGrid> ProcessGrid::counting(const GridShape& s) {
  require_grid(s.ranks, s.expert_parallel);
  return std::make_unique<ProcessGrid>(std::make_unique<CountingControl>(s.rank, s.ranks),
                                       std::make_unique<CountingCommunicator>(s.rank, s.ranks),
                                       std::make_unique<CountingCommunicator>(s.expert_rank(), s.expert_parallel),
                                       std::make_unique<CountingCommunicator>(s.replica_rank(), s.replicas()));
}

void ProcessGrid::replace_communicators(const std::function<std::unique_ptr<Communicator>(const Group&)>& replace) {
  const GridShape s = shape();
  world_ = replace({.size = s.ranks, .rank = s.rank, .first = 0});
  experts_ =
      replace({.size = s.expert_parallel, .rank = s.expert_rank(), .first = s.replica_rank() * s.expert_parallel});
  replicas_ = replace({.size = s.replicas(), .rank = s.replica_rank(), .first = s.expert_rank()});
}

TrafficCounts ProcessGrid::traffic() const {
  TrafficCounts sum = world_->traffic();
  sum += experts_->traffic();
  sum += replicas_->traffic();
  sum[Traffic::control] += control_->traffic();
  return sum;
}

void ProcessGrid::end_section() {
  for (Communicator* group : {world_.get(), experts_.get(), replicas_.get()}) group->end_section();
}

TrafficCounts ProcessGrid::collect_times() {
  TrafficCounts sum;
  for (Communicator* group : {world_.get(), experts_.get(), replicas_.get()}) sum += group->collect_times();
  return sum;
}

}  // namespace strand
