// A whole run with a power cut at any moment: the newest checkpoint is whole and at least as new as what the run had
// said to be saved, and the log and TensorBoard's events hold every row up to it.
#include <fmt/core.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "../checkpoint/power_cut.h"
#include "checkpoint/checkpoint.h"
#include "config/schema.h"
#include "driven_run.h"
#include "model/backend.h"
#include "tests/catch.h"
#include "train/run_log.h"
#include "train/trainer.h"

namespace strand::test {
namespace {

namespace fs = std::filesystem;

/// A promise for every row of the log: when the row of a step is written, the checkpoints of the steps before the last
/// one have been reported.
class WatchedRun : public PowerCutLayer {
 public:
  WatchedRun(const std::string& root, int64_t every) : PowerCutLayer(root), every_(every) {}
  ssize_t write(int descriptor, const void* bytes, size_t count) override {
    const ssize_t done = PowerCutLayer::write(descriptor, bytes, count);
    const std::string_view text(static_cast<const char*>(bytes), count);
    if (!text.starts_with("{\"step\":")) return done;
    const int64_t step = std::stol(std::string(text.substr(8)));
    const int64_t saved = (step - 1) / every_ * every_;
    if (saved > 0 && saved < step) promise(saved);
    return done;
  }

 private:
  int64_t every_;
};

std::vector<int64_t> steps_in(const std::string& log) {
  std::vector<int64_t> steps;
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    if (lines.eof()) break;  // cut off
    steps.push_back(nlohmann::json::parse(line).at("step").get<int64_t>());
  }
  return steps;
}

/// How many rows of `tag` the event files of a run hold.
int64_t events_of(const fs::path& run, const std::string& tag) {
  int64_t found = 0;
  for (const auto& entry : fs::directory_iterator(run)) {
    if (!entry.path().filename().string().starts_with("events.")) continue;
    const std::string bytes = file_bytes(entry.path());
    for (size_t at = bytes.find(tag); at != bytes.npos; at = bytes.find(tag, at + 1)) ++found;
  }
  return found;
}

}  // namespace

TEST_CASE("A power cut at any moment of a run: checkpoints, log, events and configuration") {
  Config config = smallest_config();
  config.train.keep = 1;
  config.train.background_checkpoints = false;
  DrivenRun place(config);  // its directory and its token file
  const fs::path root = place.directory();
  config.run.dir = (root / "disk" / "runs").string();
  config.data.train[0].path = (root / "tokens.bin").string();
  fs::create_directory(root / "disk");
  WatchedRun layer((root / "disk").string(), config.train.checkpoint_every);
  {
    const InterposedFileLayer interposed(layer);
    const std::unique_ptr<Device> ops_device = make_device(config.run);
    const std::unique_ptr<Ops> ops = ops_device->make_ops();
    ProcessGrid self;
    Trainer(config, {"auto", false}, *ops, self).run();
    layer.promise(config.train.steps);
  }
  int64_t states = 0;
  PowerCut(layer).for_each_state([&](const DiskState& state, size_t call, int64_t promise) {
    INFO("after call " << call << " of " << PowerCut(layer).calls() << ", promised " << promise);
    ++states;
    const std::string found = (root / "found").string();
    put_on_disk(state, found);
    const fs::path run = fs::path(found) / "runs" / "tiny";
    const LatestCheckpoint latest = find_latest((run / "checkpoints").string());
    for (const PassedOver& p : latest.passed_over) FAIL_CHECK(p.path << ": " << p.reason);
    const int64_t step = latest.path ? Checkpoint(*latest.path).state().step : -1;
    CHECK(step >= promise);
    if (fs::exists(run / "config.yaml")) CHECK(file_bytes(run / "config.yaml") == to_yaml(config));
    if (step < 0) return;
    CHECK(fs::exists(run / "config.yaml"));
    const std::vector<int64_t> rows = steps_in(file_bytes(run / "log.jsonl"));
    REQUIRE(static_cast<int64_t>(rows.size()) >= step);
    for (int64_t i = 0; i < step; ++i) CHECK(rows[size_t(i)] == i + 1);
    CHECK(events_of(run, "train/loss") >= step);
  });
  CHECK(states > 100);
}

}  // namespace strand::test
