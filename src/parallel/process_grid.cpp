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

ProcessGrid::ProcessGrid(std::unique_ptr<Communicator> world, std::unique_ptr<Communicator> experts,
                         std::unique_ptr<Communicator> replicas)
    : world_(std::move(world)), experts_(std::move(experts)), replicas_(std::move(replicas)) {
  require(world_->size() == experts_->size() * replicas_->size(), "{} ranks in groups of {}, replicated {} times",
          world_->size(), experts_->size(), replicas_->size());
}

ProcessGrid::ProcessGrid()
    : ProcessGrid(std::make_unique<SelfCommunicator>(), std::make_unique<SelfCommunicator>(),
                  std::make_unique<SelfCommunicator>()) {}

std::unique_ptr<ProcessGrid> ProcessGrid::counting(const GridShape& s) {
  require_grid(s.ranks, s.expert_parallel);
  return std::make_unique<ProcessGrid>(std::make_unique<CountingCommunicator>(s.rank, s.ranks),
                                       std::make_unique<CountingCommunicator>(s.expert_rank(), s.expert_parallel),
                                       std::make_unique<CountingCommunicator>(s.replica_rank(), s.replicas()));
}

void ProcessGrid::replace_communicators(
    const std::function<std::unique_ptr<Communicator>(std::unique_ptr<Communicator>)>& replace) {
  for (std::unique_ptr<Communicator>* communicator : {&world_, &experts_, &replicas_})
    *communicator = replace(std::move(*communicator));
}

TrafficCounts ProcessGrid::traffic() const {
  TrafficCounts sum = world_->traffic();
  sum += experts_->traffic();
  sum += replicas_->traffic();
  return sum;
}

}  // namespace strand
