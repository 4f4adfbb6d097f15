// The messages and bytes of a plan are those of a run: one optimizer step on 2 and 4 ranks that really exchange rows,
// against the same step counted on paper.
#include <mutex>

#include "../parallel/thread_grid.h"
#include "config/batch.h"
#include "core/random.h"
#include "kernels/cpu/backend.h"
#include "model/backend.h"
#include "small_config.h"
#include "tests/catch.h"
#include "train/step.h"
#include "train/training_plan.h"

using namespace strand;

namespace {
/// Two local experts at EP 4, so that rows travel in chunks in every layout; two buckets of dense weights; 8
/// micro-steps of one sequence.
Config vanilla() {
  Config c = strand_test::small_config();
  c.model.vocab_size = 5000;
  c.model.hidden_size = 64;
  c.model.head_dim = 32;
  c.moe.num_experts = 8;
  c.train.global_batch_size = 8;
  c.train.micro_batch_size = 1;
  c.parallel.bucket_mib = 1;
  return c;
}

Config deepseek() {
  Config c = vanilla();
  c.model.num_layers = 3;
  c.model.dense_layers = 1;
  c.model.dense_ffn = 48;
  c.model.tied_embeddings = false;
  c.moe.score = RouterScore::sigmoid;
  c.moe.renormalize = true;
  c.moe.shared_experts = 1;
  c.moe.bias_rate = 1e-3;
  c.losses.lb_scope = StatisticsScope::microbatch;
  c.losses.cp_paths = CouplingPaths::batch;
  return c;
}

StepData random_step(const Config& config, int rank, int64_t micro_steps) {
  StepData data{.tokens = config.data.sequence_length,
                .micro_batches = std::vector<int64_t>(size_t(micro_steps), config.train.micro_batch_size)};
  const int64_t tokens = data.sequences() * data.tokens;
  for (int64_t i = 0; i < tokens; ++i) {
    const uint64_t bits = random_bits(hash_key(1, "tokens of rank " + std::to_string(rank)), static_cast<uint64_t>(i));
    data.inputs.push_back(static_cast<int32_t>(bits % static_cast<uint64_t>(config.model.vocab_size)));
    data.targets.push_back(static_cast<int32_t>((bits >> 32) % static_cast<uint64_t>(config.model.vocab_size)));
  }
  return data;
}

/// What each rank's communicators booked during one step of a run.
std::vector<GroupTraffic> run_step(const Config& config, const GridShape& shape) {
  std::vector<GroupTraffic> booked(static_cast<size_t>(shape.ranks));
  test::run_ranks(shape.ranks, shape.expert_parallel, [&](ProcessGrid& grid) {
    const std::unique_ptr<Device> ops_device = make_device(config.run);
    const std::unique_ptr<Ops> ops = ops_device->make_ops();
    Session session(*ops, grid, config, training_shape(config),
                    plan_training(config, training_shape(config), *ops, grid));
    session.parameters().initialize(*ops, 1);
    StepRunner runner(session);
    const StepData data = random_step(config, grid.rank(), micro_steps_per_rank(config.train, grid.ranks()));
    const GroupTraffic before(grid);
    runner.step(data, {.losses = config.losses, .asked = terms_of_every_step()}, 0,
                {.optimizer = config.optimizer, .learning_rate = 1e-3});
    GroupTraffic traffic(grid);
    traffic -= before;
    booked[static_cast<size_t>(grid.rank())] = traffic;  // each rank its own
  });
  return booked;
}

/// Rows by expert: only routing knows who sends how many of them away, and which tokens are SP's sample.
bool carries_rows(Traffic kind) {
  return kind == Traffic::dispatch || kind == Traffic::combine || kind == Traffic::specialization;
}

enum class Sampled : uint8_t { all, half };

void check_traffic(const Config& config, const GridShape& shape, Sampled sampled = Sampled::all) {
  const GroupTraffic planned = plan_training(config, CpuDevice().traits(), shape).work.traffic;
  const std::vector<GroupTraffic> booked = run_step(config, shape);
  CHECK(planned.total().total().calls > 0);
  for (int g = 0; g < rank_groups; ++g) {
    for (int k = 0; k < traffic_kinds; ++k) {
      const auto group = static_cast<RankGroup>(g);
      const auto kind = static_cast<Traffic>(k);
      INFO(shape.ranks << " ranks, EP " << shape.expert_parallel << ": " << to_string(kind) << " among "
                       << to_string(group));
      const TrafficCounts::Kind& plan = planned[group][kind];
      double payload = 0;
      for (const GroupTraffic& rank : booked) {
        const TrafficCounts::Kind& real = rank[group][kind];
        CHECK(real.calls == plan.calls);
        CHECK(real.messages == plan.messages);
        if (!carries_rows(kind)) CHECK(real.sent_bytes == plan.sent_bytes);
        payload += real.payload_bytes;
      }
      if (sampled == Sampled::all) CHECK(payload == plan.payload_bytes * shape.ranks);
    }
  }
}

void check_layouts(const Config& config, Sampled sampled = Sampled::all) {
  for (const GridShape& shape : {GridShape{2, 1}, GridShape{2, 2}, GridShape{4, 1}, GridShape{4, 2}, GridShape{4, 4}})
    check_traffic(config, shape, sampled);
}
}  // namespace

TEST_CASE("the plan of a vanilla model counts the messages and bytes of its run, with every recomputation") {
  Config config = vanilla();
  config.train.recompute = GENERATE(Recompute::none, Recompute::experts, Recompute::block);
  check_layouts(config);
}

TEST_CASE("so does that of a DeepSeek-style model with statistics of the micro-step") {
  Config config = deepseek();
  config.train.recompute = GENERATE(Recompute::none, Recompute::block);
  check_layouts(config);
}

TEST_CASE("without overlap, without SP, with O, with gradients in bf16") {
  Config config = vanilla();
  SECTION("no overlap") {
    config.parallel.overlap = false;
  }
  SECTION("no SP") {
    config.losses.sp_weight = 0;
  }
  SECTION("O") {
    config.losses.o_weight = 1e-3;
  }
  SECTION("bf16") {
    config.run.precision = Precision::bf16;
    config.parallel.gradient_type = GradientType::bf16;
  }
  check_traffic(config, {4, 2});
}

TEST_CASE("half of SP's tokens: as many messages, and half of the bytes in the plan") {
  Config config = vanilla();
  const auto rows = [&] {
    return plan_training(config, CpuDevice().traits(), {4, 2})
        .work.traffic.total()[Traffic::specialization]
        .payload_bytes;
  };
  const double all = rows();
  config.losses.sp_token_fraction = 0.5;
  CHECK(rows() == all / 2);
  check_layouts(config, Sampled::half);
}
