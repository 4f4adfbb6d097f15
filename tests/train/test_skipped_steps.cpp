// train.on_nonfinite: skip. A step whose gradient holds a NaN changes nothing: no weight, no moment, no router bias and
// not the number of updates, on any rank; and a run that goes on after it is the run that was never stopped.
#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "checkpoint/checkpoint.h"
#include "driven_run.h"
#include "kernels/cpu/backend.h"
#include "spoiled_ops.h"
#include "tests/catch.h"
#include "tests/model/counting_device.h"
#include "tests/parallel/thread_grid.h"
#include "train/console.h"
#include "train/data_feed.h"
#include "train/trainer.h"

namespace strand::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct Layout {
  int ranks = 1, expert_parallel = 1;
};

/// Three updates and more; every step is kept. No decay, so that the moments alone say what an update is.
Config skipping() {
  Config c = smallest_config();
  c.moe.num_experts = 4;
  c.optimizer.weight_decay = 0;
  c.train.on_nonfinite = OnNonfinite::skip;
  c.train.steps = 6;
  c.train.global_batch_size = 4;
  c.train.checkpoint_every = 1;
  c.train.keep = 100;
  return c;
}

/// Trains up to `steps`; the gradients of the steps `spoiled` (from 1) hold a NaN, on the last rank alone.
/// Results are read `steps_ahead` steps late, as on a GPU.
void train(const DrivenRun& run, Config config, Layout layout, int64_t steps, const std::set<int64_t>& spoiled,
           int steps_ahead = 0) {
  config.run.dir = (fs::path(run.directory()) / "runs").string();
  config.data.train[0].path = (fs::path(run.directory()) / "tokens.bin").string();
  config.parallel.expert_parallel = layout.expert_parallel;
  config.train.steps = steps;
  config.train.micro_batch_size = config.train.global_batch_size / layout.ranks;  // one micro-step a step
  TokenBatches batches;
  for (const int64_t step : spoiled)
    batches.insert(
        DataFeed(config.data.train, config)
            .training_step(config.train, (step - 1) * config.train.global_batch_size, layout.ranks - 1, layout.ranks)
            .inputs);
  run_ranks(layout.ranks, layout.expert_parallel, [&](ProcessGrid& grid) {
    CpuDevice cpu;
    CountingDevice device(cpu);
    device.ahead = steps_ahead;
    const std::unique_ptr<Ops> cpu_ops = device.make_ops();
    SpoiledOps ops(*cpu_ops, grid.rank() == layout.ranks - 1 ? batches : TokenBatches{});
    Trainer(config, {}, ops, grid, layout.ranks).run();
  });
}

/// Digests of the files of a checkpoint whose names begin with `stem`.
json digests(const DrivenRun& run, int64_t step, const std::string& stem) {
  const json files = json::parse(file_bytes(run.checkpoint(step) / "manifest.json"))["files"];
  json found = json::object();
  for (const auto& [name, digest] : files.items())
    if (name.starts_with(stem) && name.ends_with(".safetensors")) found[name] = digest;
  REQUIRE(!found.empty());
  return found;
}

std::vector<double> values(const TensorSource& source, const std::string& name) {
  const auto bytes = source.at(name).bytes();
  REQUIRE(source.at(name).entry->dtype == "F32");
  std::vector<float> floats(bytes.size() / sizeof(float));
  std::memcpy(floats.data(), bytes.data(), bytes.size());
  return {floats.begin(), floats.end()};
}

/// Whether each weight of `step` is the weight of the step before plus AdamW's update number `updates`, computed here
/// from the moments that the checkpoint holds.
void check_update(const DrivenRun& run, int64_t step, double updates, const OptimizerConfig& o) {
  const Checkpoint before(run.checkpoint(step - 1)), after(run.checkpoint(step));
  int64_t compared = 0;
  for (const auto& [name, item] : before.model().items()) {
    if (!after.optimizer().items().contains("m." + name)) {  // a router bias: it moves by the rate or not at all
      CHECK(values(before.model(), name) != values(after.model(), name));
      continue;
    }
    const std::vector<double> old = values(before.model(), name), now = values(after.model(), name);
    const std::vector<double> m = values(after.optimizer(), "m." + name), v = values(after.optimizer(), "v." + name);
    for (size_t i = 0; i < old.size(); ++i) {
      const double m_hat = m[i] / (1 - std::pow(o.beta1, updates)), v_hat = v[i] / (1 - std::pow(o.beta2, updates));
      INFO(name << "[" << i << "]");
      // A weight is below 2, so it is rounded by at most 2^-24 in absolute value; the update, of size lr, by less.
      CHECK(now[i] == Approx(old[i] - o.lr * m_hat / (std::sqrt(v_hat) + o.eps)).margin(3e-7).epsilon(0));
      ++compared;
    }
  }
  CHECK(compared > 500);
}

TEST_CASE("A skipped step leaves weights, moments, biases and the count of updates as they were, on every rank") {
  const Layout layout = GENERATE(Layout{1, 1}, Layout{2, 1}, Layout{2, 2}, Layout{4, 2});
  INFO(layout.ranks << " ranks, expert_parallel " << layout.expert_parallel);
  const Config config = skipping();
  DrivenRun run(config);
  train(run, config, layout, 5, {3});
  CHECK(digests(run, 3, "model") == digests(run, 2, "model"));
  CHECK(digests(run, 3, "optimizer") == digests(run, 2, "optimizer"));
  CHECK(digests(run, 2, "model") != digests(run, 1, "model"));
  check_update(run, 2, 2, config.optimizer);
  check_update(run, 4, 3, config.optimizer);
  check_update(run, 5, 4, config.optimizer);
  const json state = json::parse(file_bytes(run.checkpoint(5) / "state.json"));
  CHECK(state["step"] == 5);
  CHECK(state["next_sample"] == 5 * config.train.global_batch_size);
}

TEST_CASE("Stopped right after a skipped step and continued, a run ends with the bytes of one that was not stopped") {
  const Layout layout = GENERATE(Layout{1, 1}, Layout{2, 2});
  const Config config = skipping();
  DrivenRun whole(config), stopped(config);
  train(whole, config, layout, 6, {3});
  train(stopped, config, layout, 3, {3});
  train(stopped, config, layout, 6, {3});
  CHECK(digests(stopped, 6, "model") == digests(whole, 6, "model"));
  CHECK(digests(stopped, 6, "optimizer") == digests(whole, 6, "optimizer"));
  CHECK(file_bytes(stopped.checkpoint(6) / "state.json") == file_bytes(whole.checkpoint(6) / "state.json"));
}

TEST_CASE("More skipped steps in a row than train.max_skips_in_a_row end the run; an update between them does not") {
  const Layout layout = GENERATE(Layout{1, 1}, Layout{2, 1});
  Config config = skipping();
  config.train.max_skips_in_a_row = 2;
  const auto check_end = [&](const DrivenRun& run, const std::set<int64_t>& spoiled) {
    using Catch::Contains;
    CHECK_THROWS_WITH(train(run, config, layout, 6, spoiled),
                      Contains("step 5: loss ") && Contains("gradient norm nan") &&
                          Contains("first non-finite tensor: gradient of ") &&
                          Contains("Stopped: 2 steps in a row were skipped before it (train.max_skips_in_a_row)") &&
                          Contains("the checkpoint of step 4 is intact"));
  };
  DrivenRun run(config);
  check_end(run, {3, 4, 5});
  CHECK(digests(run, 4, "model") == digests(run, 2, "model"));
  // The count goes on over a stop.
  run.start_over();
  train(run, config, layout, 4, {3, 4, 5});
  check_end(run, {5});
  run.start_over();
  train(run, config, layout, 6, {2, 3, 5, 6});
  CHECK(run.steps().back() == 6);
}

TEST_CASE("With train.on_nonfinite: stop, the same NaN ends the run at its step") {
  Config config = skipping();
  config.train.on_nonfinite = OnNonfinite::stop;
  DrivenRun run(config);
  CHECK_THROWS_WITH(train(run, config, {2, 1}, 6, {3}),
                    Catch::Contains("step 3: loss ") && Catch::Contains("the checkpoint of step 2 is intact"));
  CHECK(run.steps().back() == 2);
}

/// What `body` writes to standard output.
std::string output_of(const DrivenRun& run, const std::function<void()>& body) {
  const fs::path file = fs::path(run.directory()) / "output";
  std::fflush(stdout);
  const int output = dup(STDOUT_FILENO), to = open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  REQUIRE((output >= 0 && to >= 0));
  dup2(to, STDOUT_FILENO);
  body();
  std::fflush(stdout);
  dup2(output, STDOUT_FILENO);
  close(output);
  close(to);
  return file_bytes(file);
}

// A run of a million steps that goes on at step 4 and ends at step 6, by a NaN. What it says of the time that is left
// is compared with the speeds in its log.
TEST_CASE("The time that is left is that of the steps to come, at the mean speed of the steps since the start") {
  Config config = skipping();
  config.train.on_nonfinite = OnNonfinite::stop;
  config.train.log_every = 1;
  config.train.checkpoint_every = 3;
  DrivenRun run(config);
  train(run, config, {}, 3, {});
  constexpr int64_t steps = 1'000'000;
  const std::string said = output_of(run, [&] { CHECK_THROWS(train(run, config, {}, steps, {6})); });
  std::vector<json> rows;
  std::ifstream log(run.run() / "log.jsonl");
  for (std::string line; std::getline(log, line);) rows.push_back(json::parse(line));
  REQUIRE(rows.size() == 6);
  double seconds = 0;
  for (int64_t step = 4; step <= 5; ++step) {
    const json& row = rows[static_cast<size_t>(step) - 1];
    REQUIRE(row["step"] == step);
    seconds += 4 * 8 / row["tokens_per_second"].get<double>();
    const double left = seconds / static_cast<double>(step - 3) * static_cast<double>(steps - step);
    CHECK_THAT(said, Catch::Contains(fmt::format("step {:>7}/{}", step, steps)));
    CHECK_THAT(said, Catch::Contains(fmt::format("| {} left", format_duration(left))));
  }
}

TEST_CASE("A skipped update is said, with its step and what is not finite") {
  const Config config = skipping();
  DrivenRun run(config);
  const std::string said = output_of(run, [&] { train(run, config, {}, 4, {3}); });
  CHECK_THAT(said, Catch::Contains("skipped the update of step 3: loss ") && Catch::Contains("gradient norm nan") &&
                       Catch::Contains("first non-finite tensor: gradient of ") && !Catch::Contains("step 2: loss"));
}

/// Without what depends on the clock.
std::vector<std::string> numbers(std::vector<std::string> rows) {
  for (std::string& row : rows) {
    auto values = nlohmann::ordered_json::parse(row);
    for (const char* key : {"comm_seconds", "step_seconds_by_rank", "comm_bytes"}) values.erase(key);
    row = values.dump();
  }
  return rows;
}

TEST_CASE("A run whose results are read a step late leaves the bytes of one that reads them at once") {
  const Layout layout = GENERATE(Layout{1, 1}, Layout{2, 2});
  Config config = skipping();
  config.train.checkpoint_every = 3;  // a checkpoint reads all results before it
  DrivenRun run(config);              // one directory for both, as checkpoints name it
  train(run, config, layout, 6, {2, 5});
  const Remains at_once = run.remains();
  fs::remove_all(run.run());
  train(run, config, layout, 6, {2, 5}, 1);
  const Remains late = run.remains();
  CHECK(late.checkpoints == at_once.checkpoints);
  CHECK(numbers(late.rows) == numbers(at_once.rows));
  CHECK(late.rows.size() == 6);
}

TEST_CASE("However late a step's result is read, its ranks did not wait for longer than it took") {
  const int steps_ahead = GENERATE(0, 1);
  INFO(steps_ahead << " steps late");
  Config config = skipping();
  config.train.log_every = 1;
  DrivenRun run(config);
  train(run, config, {4, 2}, 6, {}, steps_ahead);
  const std::vector<std::string> rows = run.remains().rows;
  CHECK(rows.size() == 6);
  for (const std::string& row : rows) {
    const json r = json::parse(row);
    const double slowest = r["step_seconds_by_rank"]["max"], exposed = r["comm_seconds"]["exposed"];
    CHECK(slowest > 0);
    CHECK(exposed > 0);
    CHECK(exposed <= slowest);
  }
}

TEST_CASE("A step that is found not to be finite a step late has changed nothing, nor has the step after it") {
  const Layout layout = GENERATE(Layout{1, 1}, Layout{2, 1});
  Config config = skipping();
  config.train.on_nonfinite = OnNonfinite::stop;
  config.train.checkpoint_every = 2;
  DrivenRun run(config);
  CHECK_THROWS_WITH(train(run, config, layout, 6, {3}, 1),
                    Catch::Contains("step 3: loss ") && Catch::Contains("first non-finite tensor: gradient of ") &&
                        Catch::Contains("the checkpoint of step 2 is intact"));
  CHECK(run.steps().back() == 2);
  CHECK(run.remains().rows.size() == 3);  // the last one says where the run ended
}

}  // namespace
}  // namespace strand::test
