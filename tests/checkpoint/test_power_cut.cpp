// Checkpoints after a power cut at any moment, on a disk that lost any part of what was not synced. A name step_* is a
// whole checkpoint; the newest is at least as new as the last one that was said to be saved; and another save works.
#include <algorithm>
#include <set>

#include "checkpoint/checkpoint.h"
#include "checkpoint/shared_checkpoint.h"
#include "fixtures.h"
#include "power_cut.h"
#include "tests/catch.h"

namespace strand::test {
namespace {

namespace fs = std::filesystem;

struct Saved {
  int64_t step;
  std::string config;
};

/// A checkpoint of small tensors in several files, unlike those of other steps.
struct Contents {
  std::vector<NamedTensor> model, optimizer;
  CheckpointContents all;

  explicit Contents(const Saved& saved) {
    const auto x = static_cast<float>(saved.step);
    model = {tensor_of<float>("a", {2, 2}, {x, x + 1, x + 2, x + 3}), tensor_of<float>("b", {3}, {x, x, x})};
    optimizer = {tensor_of<float>("m.a", {2, 2}, {x, 0, x, 0})};
    all.state.step = saved.step;
    all.config_yaml = saved.config;
    all.tokenizer = {{"tokenizer.model", "tokenizer of " + saved.config}};
    all.model = model;
    all.optimizer = optimizer;
  }
};
constexpr uint64_t shard_bytes = 16;  // "a" and "b" go into files of their own

void save_all(PowerCutLayer& layer, const std::string& parent, const std::vector<Saved>& saves,
              const Retention& retention) {
  for (size_t i = 0; i < saves.size(); ++i) {
    save_checkpoint(parent, Contents(saves[i]).all, shard_bytes);
    layer.promise(static_cast<int64_t>(i));
    prune_checkpoints(parent, retention);
  }
}

/// Checks the invariants in a directory as it is found after the cut.
void check_found(const std::string& parent, const std::vector<Saved>& saves, int64_t promise) {
  const LatestCheckpoint latest = find_latest(parent);
  for (const PassedOver& p : latest.passed_over) FAIL_CHECK(p.path << ": " << p.reason);
  if (fs::exists(parent)) {
    for (const auto& entry : fs::directory_iterator(parent))
      if (entry.path().filename().string().starts_with("step_"))
        CHECK(error_of([&] { verify_checkpoint(entry.path().string()); }) == "");
  }
  if (promise < 0 && !latest.path) return;
  REQUIRE(latest.path);
  const Checkpoint found(*latest.path);
  const std::string config = found.config_yaml();
  const auto same = [&](const Saved& s) { return s.config == config && s.step == found.state().step; };
  const auto at = std::find_if(saves.begin(), saves.end(), same) - saves.begin();
  CHECK(at >= std::max<int64_t>(0, promise));
  CHECK(at < static_cast<int64_t>(saves.size()));
  CHECK(found.tokenizer().at("tokenizer.model") == "tokenizer of " + config);
}

}  // namespace

TEST_CASE("The model of the disk: what is not synced may be lost") {
  const TemporaryDirectory directory;
  put(directory / "old", "old");
  PowerCutLayer layer(directory.path());
  {
    const InterposedFileLayer interposed(layer);
    AtomicFile file(directory / "new");
    file.write("new");
    file.commit();
    layer.promise(1);
    remove_tree(directory / "old");
  }
  std::set<std::pair<int64_t, DiskState>> states;
  PowerCut(layer).for_each_state(
      [&](const DiskState& state, size_t, int64_t promise) { states.emplace(promise, state); });
  const DiskState old{{"old", "old"}}, begun{{"new.tmp", ""}, {"old", "old"}}, part{{"new.tmp", "n"}, {"old", "old"}};
  const DiskState whole{{"new.tmp", "new"}, {"old", "old"}}, named{{"new", "new"}, {"old", "old"}};
  CHECK(states == std::set<std::pair<int64_t, DiskState>>{
                      {-1, old}, {-1, begun}, {-1, part}, {-1, whole}, {-1, named}, {1, named}, {1, {{"new", "new"}}}});
}

TEST_CASE(
    "A power cut at any moment of saving, replacing and retiring leaves whole checkpoints, none of them too old") {
  const TemporaryDirectory directory, again;
  PowerCutLayer layer(directory.path());
  // The third one replaces the second, as when a run continues from an older checkpoint.
  const std::vector<Saved> saves = {{1, "first"}, {2, "second"}, {2, "second again"}, {3, "third"}, {4, "fourth"}};
  const std::string runs = "runs/tiny/checkpoints";
  {
    const InterposedFileLayer interposed(layer);
    save_all(layer, directory / runs, saves, {.keep = 1});
  }
  UnsyncedLayer unsynced;
  const InterposedFileLayer interposed(unsynced);
  int64_t states = 0;
  PowerCut(layer).for_each_state([&](const DiskState& state, size_t call, int64_t promise) {
    INFO("after call " << call << " of " << PowerCut(layer).calls());
    put_on_disk(state, again / "disk");
    check_found(again / ("disk/" + runs), saves, promise);
    if (++states % 7 != 0) return;  // now and then, the run goes on
    save_checkpoint(again / ("disk/" + runs), Contents({9, "ninth"}).all);
    CHECK(find_latest(again / ("disk/" + runs)).path->ends_with("step_00000009"));
  });
  CHECK(states > 200);
}

TEST_CASE("A power cut while two writers share a checkpoint leaves whole ones") {
  const TemporaryDirectory directory, again;
  PowerCutLayer layer(directory.path());
  const std::vector<Saved> saves = {{1, "first"}, {2, "second"}};
  {
    const InterposedFileLayer interposed(layer);
    for (size_t i = 0; i < saves.size(); ++i) {
      const Contents first(saves[i]);
      CheckpointContents second = first.all;
      const std::vector<NamedTensor> other = {tensor_of<float>("c", {1}, {float(i)})};
      second.model = other;
      second.optimizer = {};
      CheckpointWriter writer = CheckpointWriter::create(directory / "runs", saves[i].step);
      const std::atomic<bool> abandon{false};
      write_checkpoint_part(directory / "runs", second,
                            {.writer = 1, .writers = 2, .model = {1, 2}, .optimizer = {1, 1}});
      finish_shared_checkpoint(writer, first.all, {.writer = 0, .writers = 2, .model = {0, 2}, .optimizer = {0, 1}}, 5,
                               abandon);
      layer.promise(static_cast<int64_t>(i));
    }
  }
  PowerCut(layer).for_each_state([&](const DiskState& state, size_t call, int64_t promise) {
    INFO("after call " << call << " of " << PowerCut(layer).calls());
    put_on_disk(state, again / "disk");
    check_found(again / "disk/runs", saves, promise);
  });
}

TEST_CASE("A file that grows keeps what was synced, in the place where it was made") {
  const TemporaryDirectory directory;
  PowerCutLayer layer(directory.path());
  {
    const InterposedFileLayer interposed(layer);
    make_directories(directory / "run");
    AppendFile file(directory / "run/log");
    file.write("1\n");
    file.write("2\n");
    file.sync();
    layer.promise(2);
    file.write("3\n");
    file.sync();
    layer.promise(3);
  }
  const std::string all = "1\n2\n3\n";
  PowerCut(layer).for_each_state([&](const DiskState& state, size_t call, int64_t promise) {
    INFO("after call " << call);
    const auto found = state.find("run/log");
    if (promise < 0 && found == state.end()) return;
    REQUIRE(found != state.end());
    CHECK(all.starts_with(*found->second));
    CHECK(static_cast<int64_t>(found->second->size()) >= 2 * promise);
  });
}

}  // namespace strand::test
