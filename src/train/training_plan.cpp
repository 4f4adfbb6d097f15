#include "train/training_plan.h"

#include <optional>

#include "config/batch.h"
#include "train/step.h"

namespace strand {

namespace {
StepData blank_step(const SessionShape& shape, int64_t micro_steps) {
  const auto tokens = static_cast<size_t>(micro_steps * shape.sequences * shape.tokens);
  return {.tokens = shape.tokens,
          .micro_batches = std::vector<int64_t>(static_cast<size_t>(micro_steps), shape.sequences),
          .inputs = std::vector<int32_t>(tokens),
          .targets = std::vector<int32_t>(tokens)};
}
}  // namespace

SessionShape training_shape(const Config& config) {
  return {Purpose::training, config.train.micro_batch_size, config.data.sequence_length};
}

SessionPlan plan_training(const Config& config, const SessionShape& shape, const DeviceTraits& device,
                          const GridShape& grid, int64_t micro_steps) {
  const Update update{.optimizer = config.optimizer};
  const Update measured_update{.optimizer = config.optimizer, .size = UpdateSize::measured};
  std::optional<StepRunner> runner;  // of the session on paper; what its making does is no work of a step
  const auto evaluate_and_measure = [&](Session& session) {
    runner.emplace(session);
    const StepData data = blank_step(shape, 1);
    const Objective every_term{.losses = config.losses};
    runner->evaluate(data, every_term);
    runner->step(data, every_term, 0, measured_update);
    runner->take_result();
  };
  const auto step = [&](Session&) {
    runner->step(blank_step(shape, micro_steps), {.losses = config.losses, .asked = terms_of_every_step()}, 0, update);
    runner->take_result();
    runner.reset();
  };
  return plan_session(config, shape, device, grid, {.before = evaluate_and_measure, .counted = step});
}

SessionPlan plan_training(const Config& config, const DeviceTraits& device, const GridShape& grid) {
  return plan_training(config, training_shape(config), device, grid, micro_steps_per_rank(config.train, grid.ranks));
}

SessionPlan plan_training(const Config& config, const SessionShape& shape, const Ops& ops, const ProcessGrid& grid) {
  return plan_training(config, shape, ops.device().traits(), grid.shape());
}

}  // namespace strand
