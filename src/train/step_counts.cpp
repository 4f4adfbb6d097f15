#include "train/step_counts.h"

#include "model/backend.h"
#include "train/step.h"

namespace strand {

PlanCounts count_step(const Config& config) {
  RunConfig run = config.run;
  run.device = DeviceKind::plan;
  const std::unique_ptr<Ops> backend = make_backend(run);
  auto& ops = dynamic_cast<PlanOps&>(*backend);
  ProcessGrid self;
  const TrainConfig& train = config.train;
  const int64_t micro_steps = train.global_batch_size / train.micro_batch_size;
  Session session(ops, self, config, {Purpose::training, train.micro_batch_size, config.data.sequence_length});
  StepRunner runner(session);
  const auto tokens = static_cast<size_t>(micro_steps * train.micro_batch_size * config.data.sequence_length);
  const StepData data{.tokens = config.data.sequence_length,
                      .micro_batches = std::vector<int64_t>(static_cast<size_t>(micro_steps), train.micro_batch_size),
                      .inputs = std::vector<int32_t>(tokens),
                      .targets = std::vector<int32_t>(tokens)};
  ops.reset_counts();
  runner.accumulate(data, {.losses = config.losses}, 0);
  runner.gradient_norm();
  runner.update(config.optimizer, config.optimizer.lr, 1.0);
  return ops.counts();
}

}  // namespace strand
