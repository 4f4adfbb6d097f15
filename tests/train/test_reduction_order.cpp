// When gradients begin to travel: on paper, by what the model enqueues and what the communicators are asked for.
#include <algorithm>

#include "kernels/plan/plan_ops.h"
#include "tests/catch.h"
#include "tests/model/counting_device.h"
#include "tests/model/harness.h"
#include "train/training_plan.h"

namespace strand::test {
namespace {

using Lines = std::vector<std::string>;

/// Writes down the parts of a step as they are enqueued.
class LoggingTrail final : public WorkTrail {
 public:
  explicit LoggingTrail(Lines& lines) : lines_(lines) {}
  void step(int64_t) override {}
  void part(const char* what, int64_t layer) override { lines_.push_back(fmt::format("{} {}", what, layer)); }
  void operation(const char*) override {}

 private:
  Lines& lines_;
};

/// One of two ranks on paper, which writes down its reductions.
class LoggingCommunicator final : public Communicator {
 public:
  explicit LoggingCommunicator(Lines& lines) : Communicator(0, 2), lines_(lines) {}
  bool only_counts() const override { return true; }

 private:
  static constexpr int64_t reduction = 1, other = 2;

  int64_t start_all_reduce_sum(Traffic, const Tensor&) override { return other; }
  int64_t start_reduce_scatter_sum(Traffic, const Tensor&, DType) override {
    lines_.push_back("reduction begun");
    return reduction;
  }
  int64_t start_all_gather(Traffic, const Tensor&) override { return other; }
  int64_t start_all_to_all(Traffic, const RankRows&, const RankRows&) override { return other; }
  Times finish(int64_t ticket) override {
    if (ticket == reduction) lines_.push_back("reduction waited for");
    return {};
  }

  Lines& lines_;
};

/// A step of four layers, each of which fills more than a bucket, in two micro-steps.
Lines lines_of_a_step(bool overlap) {
  Config config = tiny_config(Precision::fp32);
  config.model.num_layers = 4;
  config.model.hidden_size = 256;
  config.moe.expert_ffn = 128;  // 5 experts: 1.9 MiB a layer
  config.parallel.bucket_mib = 1;
  config.parallel.overlap = overlap;
  Lines lines;
  LoggingTrail trail(lines);
  PlanDevice paper(DeviceTraits{});
  CountingDevice device(paper);
  device.told = &trail;
  PlanOps ops(device);
  ProcessGrid grid(std::make_unique<CountingControl>(0, 2), std::make_unique<LoggingCommunicator>(lines),
                   std::make_unique<SelfCommunicator>(), std::make_unique<LoggingCommunicator>(lines));
  const SessionShape shape{Purpose::training, 1, 8};
  Session session(ops, grid, config, shape, plan_training(config, shape, ops, grid));
  StepRunner runner(session);
  lines.clear();
  runner.gradients(cut(random_batch(config, 2, 8, 1), {1, 1}), whole_objective(config), 0);
  return lines;
}

TEST_CASE("Gradients of a layer are reduced while the layer below runs backward, in the last micro-step") {
  const Lines lines = lines_of_a_step(true);
  const auto last = [&](const std::string& line) {
    const auto found = std::find(lines.rbegin(), lines.rend(), line);
    REQUIRE(found != lines.rend());
    return std::distance(found, lines.rend()) - 1;
  };
  const auto reductions = [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    return std::count(lines.begin() + begin, lines.begin() + end, "reduction begun");
  };
  CHECK(reductions(0, last("experts (backward) 3")) == 0);
  for (const int layer : {3, 2, 1})
    CHECK(reductions(last(fmt::format("attention (backward) {}", layer)),
                     last(fmt::format("experts (backward) {}", layer - 1))) >= 1);
  const auto first_wait = std::find(lines.begin(), lines.end(), "reduction waited for") - lines.begin();
  CHECK(first_wait > last("embedding (backward) -1"));
}

TEST_CASE("Without overlap, gradients are reduced when all are there") {
  const Lines lines = lines_of_a_step(false);
  const auto first = std::find(lines.begin(), lines.end(), "reduction begun");
  REQUIRE(first != lines.end());
  CHECK(std::find(first, lines.end(), "embedding (backward) -1") == lines.end());
}

}  // namespace
}  // namespace strand::test
