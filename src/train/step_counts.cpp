#include "train/step_counts.h"

#include "kernels/plan/plan_ops.h"
#include "train/step.h"

namespace strand {

StepWork count_step(const Config& config, const DeviceTraits& traits, const GridShape& shape) {
  PlanDevice device(traits);
  PlanOps ops(device);
  const std::unique_ptr<ProcessGrid> grid = ProcessGrid::counting(shape);
  const TrainConfig& train = config.train;
  const int64_t micro_steps = micro_steps_per_rank(train, shape.ranks);
  Session session(ops, *grid, config, {Purpose::training, train.micro_batch_size, config.data.sequence_length});
  StepRunner runner(session);
  const auto tokens = static_cast<size_t>(micro_steps * train.micro_batch_size * config.data.sequence_length);
  const StepData data{.tokens = config.data.sequence_length,
                      .micro_batches = std::vector<int64_t>(static_cast<size_t>(micro_steps), train.micro_batch_size),
                      .inputs = std::vector<int32_t>(tokens),
                      .targets = std::vector<int32_t>(tokens)};
  ops.reset_counts();
  const GroupTraffic before(*grid);
  runner.step(data, {.losses = config.losses, .asked = terms_of_every_step()}, 0, {.optimizer = config.optimizer});
  StepWork work{ops.counts(), GroupTraffic(*grid)};
  work.traffic -= before;
  return work;
}

}  // namespace strand
