// The training loop on several ranks, which are threads: one log, one set of checkpoints, whatever the layout.
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "driven_run.h"
#include "kernels/cpu/backend.h"
#include "tests/catch.h"
#include "tests/parallel/thread_grid.h"
#include "train/trainer.h"

namespace strand::test {
namespace {
using nlohmann::json;

/// Eight sequences of the 12 windows a step; four experts.
Config config_in(DrivenRun& run, int expert_parallel) {
  Config c = run.config();
  c.run.dir = (std::filesystem::path(run.directory()) / "runs").string();
  c.data.train[0].path = (std::filesystem::path(run.directory()) / "tokens.bin").string();
  c.parallel.expert_parallel = expert_parallel;
  return c;
}

Config eight_sequences() {
  Config c = smallest_config();
  c.moe.num_experts = 4;
  c.moe.top_k = 2;
  c.moe.bias_rate = 1e-3;
  c.losses.sp_weight = 0.1;
  c.train.global_batch_size = 8;
  c.train.micro_batch_size = 2;
  c.train.log_every = 1;
  return c;
}

void train(const Config& config, int ranks) {
  run_ranks(ranks, static_cast<int>(config.parallel.expert_parallel), [&](ProcessGrid& grid) {
    const std::unique_ptr<Ops> cpu_ops = make_cpu_ops();
    Ops& ops = *cpu_ops;
    Trainer(config, {}, ops, grid, ranks).run();
  });
}

std::vector<json> rows_of(const DrivenRun& run) {
  std::vector<json> rows;
  std::istringstream lines(file_bytes(run.run() / "log.jsonl"));
  for (std::string line; std::getline(lines, line);) rows.push_back(json::parse(line));
  return rows;
}

TEST_CASE("Several ranks write the log of one, with what only several have") {
  DrivenRun one(eight_sequences()), four(eight_sequences());
  train(config_in(one, 1), 1);
  train(config_in(four, 2), 4);
  const std::vector<json> want = rows_of(one), got = rows_of(four);
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    INFO(got[i].dump());
    CHECK(got[i]["step"] == want[i]["step"]);
    CHECK(got[i]["tokens"] == want[i]["tokens"]);
    for (const char* key : {"loss", "ce", "sp", "grad_norm", "worst_expert_load"})
      CHECK(got[i][key].get<double>() == Approx(want[i][key].get<double>()).epsilon(1e-4));
    CHECK(!want[i].contains("comm_bytes"));
    CHECK(got[i]["step_seconds_by_rank"]["min"] <= got[i]["step_seconds_by_rank"]["max"]);
    CHECK(got[i]["comm_bytes"]["gradients"] > 0);
    CHECK(got[i]["comm_bytes"]["dispatch"] > 0);
    CHECK(got[i]["tokens_by_rank_max_over_mean"] >= 1.0);
  }
  CHECK(four.steps() == one.steps());
}

TEST_CASE("A run goes on in another layout, with the losses of an undisturbed one") {
  DrivenRun whole(eight_sequences()), moved(eight_sequences());
  train(config_in(whole, 1), 1);
  Config config = config_in(moved, 2);
  config.train.steps = 2;
  train(config, 4);
  config = config_in(moved, 1);
  train(config, 2);
  const std::vector<json> want = rows_of(whole), got = rows_of(moved);
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < want.size(); ++i)
    CHECK(got[i]["loss"].get<double>() == Approx(want[i]["loss"].get<double>()).epsilon(1e-4));
}

TEST_CASE("Stopped and continued in the same layout: the same bytes as undisturbed") {
  DrivenRun whole(eight_sequences()), stopped(eight_sequences());
  train(config_in(whole, 2), 2);
  Config config = config_in(stopped, 2);
  config.train.steps = 2;
  train(config, 2);
  train(config_in(stopped, 2), 2);
  const auto digests = [](const DrivenRun& run) {
    json files = json::parse(file_bytes(run.checkpoint(4) / "manifest.json"))["files"];
    files.erase("config.yaml");  // names its directory
    return files;
  };
  CHECK(digests(stopped) == digests(whole));
  CHECK(digests(whole).contains("model-00002-of-00002.safetensors"));
}

TEST_CASE("Ranks that cannot share the step or the experts are refused, all with the same words") {
  DrivenRun run(eight_sequences());
  CHECK_THROWS_WITH(train(config_in(run, 1), 3), Catch::Contains("times 3 ranks"));
  Config config = config_in(run, 1);
  config.train.micro_batch_size = 1;
  config.parallel.expert_parallel = 8;
  CHECK_THROWS_WITH(train(config, 8), Catch::Contains("divide"));
  CHECK(!std::filesystem::exists(run.run()));
}

TEST_CASE("Ranks whose copies of the training data differ are refused, before anything is written") {
  DrivenRun run(eight_sequences());
  const Config config = config_in(run, 1);
  const std::string other = (std::filesystem::path(run.directory()) / "other.bin").string();
  std::string bytes = file_bytes(config.data.train[0].path);
  bytes[20] = static_cast<char>(bytes[20] ^ 1);
  put_file_bytes(other, bytes);
  CHECK_THROWS_WITH(run_ranks(2, 1,
                              [&](ProcessGrid& grid) {
                                Config mine = config;
                                if (grid.rank() == 1) mine.data.train[0].path = other;
                                const std::unique_ptr<Ops> ops = make_cpu_ops();
                                Trainer(mine, {}, *ops, grid, 2).run();
                              }),
                    Catch::Contains("training data") && Catch::Contains("97 ids of u16"));
  CHECK(!std::filesystem::exists(run.run()));
}

TEST_CASE("A directory that only the first rank finds unusable stops every rank") {
  DrivenRun run(eight_sequences());
  const Config config = config_in(run, 1);
  std::filesystem::create_directories(run.run());
  put_file_bytes(run.run() / "checkpoints", "in the way");
  CHECK_THROWS(train(config, 2));
}

}  // namespace
}  // namespace strand::test
