// A run that is killed, or whose disk is full, at any call that changes the disk; and checkpoints that were damaged
// afterwards. Continued, it ends with every byte of the run that nothing disturbed, or it says what is wrong and stops.
#include <signal.h>

#include "driven_run.h"
#include "tests/catch.h"

namespace strand::test {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

/// A run with two checkpoints, of which the second retires the first. It has few tensors, as every call meets a fault.
Config two_checkpoints(bool background) {
  Config config = smallest_config();
  config.moe.num_experts = 2;
  config.moe.top_k = 1;
  config.train.keep = 1;
  config.train.background_checkpoints = background;
  return config;
}

/// Checks that all of `expected` is there. A kill after the last save may leave an older checkpoint that should have
/// been removed, as nothing comes after it that would remove it.
void check_all_there(const Remains& found, const Remains& expected) {
  CHECK(found.rows == expected.rows);
  for (const auto& [name, bytes] : expected.checkpoints) {
    INFO(name);
    REQUIRE(found.checkpoints.contains(name));
    REQUIRE((found.checkpoints.at(name) == bytes));
  }
  for (const auto& [name, bytes] : found.checkpoints)
    if (!expected.checkpoints.contains(name)) CHECK_THAT(name, Catch::StartsWith("step_00000002"));
}

/// Lets a run meet `fault` at call 0, 1, 2, ... until there is no such call; `look` at how it ended, then the run is
/// continued and must end as `expected`.
template <typename Look>
int at_every_call(const std::string& fault, const Config& config, const Look& look) {
  const Remains expected = undisturbed(config);
  DrivenRun run(config);
  for (int at = 0;; ++at) {
    run.start_over();
    const Ended ended = run.train(fault + ":" + std::to_string(at));
    INFO(fault << " at call " << at << ": " << ended.errors);
    if (!ended.fault) {
      CHECK(ended.status == 0);
      CHECK(run.remains() == expected);
      return at;
    }
    look(ended);
    // Whatever has the name of a checkpoint is a whole one, so the next start passes over none.
    const Ended continued = run.train();
    INFO(continued.errors);
    REQUIRE(continued.status == 0);
    CHECK_THAT(continued.errors, !Contains("passing over"));
    check_all_there(run.remains(), expected);
  }
}

void killed(const Ended& ended) {
  CHECK(ended.status == 128 + SIGKILL);
}

TEST_CASE("Killed at every call that changes the disk, a run continues to the same bytes") {
  const bool background = GENERATE(false, true);
  CHECK(at_every_call("kill", two_checkpoints(background), killed) > 150);
}

TEST_CASE("Killed in the middle of every write, a run continues to the same bytes") {
  CHECK(at_every_call("torn", two_checkpoints(true), killed) > 50);
}

TEST_CASE("A disk that is full from any moment on stops the run with an error; with space again it continues") {
  const bool background = GENERATE(false, true);
  const int calls = at_every_call("full", two_checkpoints(background), [](const Ended& ended) {
    CHECK(ended.status == 1);
    CHECK_THAT(ended.errors, Contains("error: ") && Contains("No space left on device"));
  });
  CHECK(calls > 60);
}

TEST_CASE("A disk that is full for a while when rows of the log are written stops nothing, and no row is missing") {
  Config config = two_checkpoints(false);
  config.train.steps = 8;
  DrivenRun run(config);
  const Ended ended = run.train("log:2");
  INFO(ended.errors);
  CHECK(ended.fault);
  CHECK(ended.status == 0);
  CHECK_THAT(ended.errors, Contains("warning") && Contains("log.jsonl") && Contains("No space left on device"));
  CHECK(run.remains() == undisturbed(config));
}

TEST_CASE("A log that takes no more rows stops no training; at its end the run says that rows are missing") {
  const Config config = two_checkpoints(false);
  DrivenRun run(config);
  const Ended ended = run.train("nolog:2");
  INFO(ended.errors);
  CHECK(ended.fault);
  CHECK(ended.status == 1);
  CHECK_THAT(ended.errors, Contains("log.jsonl lacks") && Contains("No space left on device"));
  CHECK(run.remains().checkpoints == undisturbed(config).checkpoints);
}

TEST_CASE("A checkpoint that the disk has no room for leaves the one before it") {
  const bool background = GENERATE(false, true);
  Config config = two_checkpoints(background);
  DrivenRun run(config);
  run.config().train.steps = 2;
  run.complete();
  const Remains before = run.remains();
  run.config().train.steps = 4;
  bool seen = false;
  for (int at = 0; !seen; ++at) {
    const Ended ended = run.train("full:" + std::to_string(at));
    REQUIRE(ended.fault);
    seen = ended.errors.find("the checkpoint could not be saved") != std::string::npos;
    if (!seen) continue;
    CHECK(ended.status == 1);
    CHECK_THAT(ended.errors, Contains("No space left on device") && Contains("step_00000004") &&
                                 Contains("the checkpoint of step 2 is intact"));
  }
  CHECK(run.remains().checkpoints == before.checkpoints);
  run.complete();
  CHECK(run.steps() == std::vector<int64_t>{4});
}

TEST_CASE("A disk that has no room for the report alone: the run is whole and says how to make the report") {
  Config config = two_checkpoints(false);
  config.run.report = true;
  const Remains expected = undisturbed(config);
  DrivenRun run(config);
  const auto train_with_space_for = [&](int calls) {
    run.start_over();
    return run.train("full:" + std::to_string(calls));
  };
  // All calls of a run that need space: as many as it takes to meet no fault.
  int too_few = 0, enough = 1024;
  REQUIRE_FALSE(train_with_space_for(enough).fault);
  while (enough - too_few > 1) {
    const int middle = (too_few + enough) / 2;
    (train_with_space_for(middle).fault ? too_few : enough) = middle;
  }
  // The last of them, an open and at least one write, are the report's.
  int of_report = 0;
  for (;; ++of_report) {
    const Ended ended = train_with_space_for(enough - 1 - of_report);
    INFO(ended.errors);
    REQUIRE(ended.fault);
    if (ended.status == 1) break;  // this one was the run's own
    CHECK(ended.status == 0);
    CHECK_THAT(ended.errors, Contains("warning") && Contains("no report of this run") &&
                                 Contains("No space left on device") && Contains("strand report runs/tiny"));
    CHECK(run.remains() == expected);
    for (const auto& entry : fs::directory_iterator(run.run()))
      CHECK_THAT(entry.path().filename().string(), !Contains("report"));
  }
  CHECK(of_report >= 2);
}

TEST_CASE("Interrupted and short writes change nothing") {
  for (const bool background : {false, true}) {
    const Config config = two_checkpoints(background);
    DrivenRun run(config);
    REQUIRE(run.train("short").status == 0);
    CHECK(run.remains() == undisturbed(config));
  }
}

// ---- damage afterwards --------------------------------------------------------------------------------------------

/// A checkpoint a step, of which three stay; killed in the fourth step, so that 1, 2 and 3 are there.
Config three_checkpoints() {
  Config config = smallest_config();
  config.train.checkpoint_every = 1;
  config.train.keep = 3;
  config.train.background_checkpoints = false;
  return config;
}

const std::vector<std::string> checkpoint_files = {"config.yaml", "manifest.json", "model.safetensors",
                                                   "optimizer.safetensors", "state.json"};

struct Damage {
  const char* name;
  void (*inflict)(const fs::path& file);
};

const std::vector<Damage> damages = {
    {"a flipped bit",
     [](const fs::path& file) {
       std::string bytes = file_bytes(file);
       bytes[bytes.size() / 2] ^= 4;
       put_file_bytes(file, bytes);
     }},
    {"truncated by a byte", [](const fs::path& file) { fs::resize_file(file, fs::file_size(file) - 1); }},
    {"empty", [](const fs::path& file) { fs::resize_file(file, 0); }},
    {"missing", [](const fs::path& file) { fs::remove(file); }}};

TEST_CASE("A damaged checkpoint is passed over, with the reason, for the one before it") {
  const Config config = three_checkpoints();
  const Remains expected = undisturbed(config);
  DrivenRun run(config);
  REQUIRE(run.train("row:4").status == 128 + SIGKILL);
  REQUIRE(run.steps() == std::vector<int64_t>{1, 2, 3});
  const fs::path kept = fs::path(run.directory()) / "kept";
  fs::copy(run.run(), kept, fs::copy_options::recursive);
  for (const std::string& file : checkpoint_files) {
    for (const Damage& damage : damages) {
      fs::remove_all(run.run());
      fs::copy(kept, run.run(), fs::copy_options::recursive);
      damage.inflict(run.checkpoint(3) / file);
      const Ended ended = run.train();
      INFO(file << ", " << damage.name << ": " << ended.errors);
      REQUIRE(ended.status == 0);
      CHECK_THAT(ended.errors, Contains("passing over runs/tiny/checkpoints/step_00000003: ") && Contains(file) &&
                                   Contains("continuing from runs/tiny/checkpoints/step_00000002"));
      REQUIRE(run.remains() == expected);
    }
  }
}

TEST_CASE("A directory that is no checkpoint, and one of another step, are passed over") {
  DrivenRun run(three_checkpoints());
  REQUIRE(run.train("row:4").status == 128 + SIGKILL);
  fs::create_directory(run.checkpoint(9));
  fs::copy(run.checkpoint(2), run.checkpoint(8));
  const Ended ended = run.train();
  INFO(ended.errors);
  CHECK(ended.status == 0);
  CHECK_THAT(ended.errors, Contains("step_00000009: ") && Contains("manifest.json is missing") &&
                               Contains("step_00000008: ") && Contains("the directory was renamed") &&
                               Contains("continuing from runs/tiny/checkpoints/step_00000003"));
}

TEST_CASE("With every checkpoint damaged the run stops, and touches nothing") {
  DrivenRun run(three_checkpoints());
  REQUIRE(run.train("row:4").status == 128 + SIGKILL);
  for (int64_t step : {1, 2, 3}) damages[0].inflict(run.checkpoint(step) / "model.safetensors");
  const Remains before = run.remains();
  const Ended ended = run.train();
  CHECK(ended.status == 1);
  CHECK_THAT(ended.errors, Contains("step_00000003") && Contains("step_00000002") && Contains("step_00000001") &&
                               Contains("none is whole; move them away"));
  CHECK(run.remains() == before);
}

TEST_CASE("A damaged checkpoint that was named is an error, not a reason to take another") {
  DrivenRun run(three_checkpoints());
  REQUIRE(run.train("row:4").status == 128 + SIGKILL);
  damages[0].inflict(run.checkpoint(3) / "optimizer.safetensors");
  Ended ended = run.train("none", "runs/tiny/checkpoints/step_00000003");
  CHECK(ended.status == 1);
  CHECK_THAT(ended.errors, Contains("optimizer.safetensors is damaged"));
  damages[3].inflict(run.checkpoint(3) / "manifest.json");
  ended = run.train("none", "runs/tiny/checkpoints/step_00000003");
  CHECK(ended.status == 1);
  CHECK_THAT(ended.errors, Contains("manifest.json is missing"));
}

}  // namespace
}  // namespace strand::test
