// Every system call of a save or a prune fails in turn, or is the last one before a kill. What is found afterwards is
// the old checkpoint or the new one, whole.
#include "tests/catch.h"
#include <cerrno>

#include "checkpoint/checkpoint.h"
#include "fixtures.h"

using namespace strand;
using namespace strand::test;
namespace fs = std::filesystem;

namespace {
enum class Fault {
  no_space,   ///< the call fails with ENOSPC, the later ones work
  kill,       ///< neither the call nor any later one reaches the disk, clean-up included
  torn_kill,  ///< likewise, but half of the bytes of a write reach it
};

class FaultyLayer : public UnsyncedLayer {
 public:
  FaultyLayer(Fault fault, int at) : fault_(fault), at_(at) {}
  bool reached() const { return calls_ > at_; }

  int open(const std::string& path, int flags, mode_t mode) override {
    return hit() ? -1 : FileLayer::open(path, flags, mode);
  }
  ssize_t write(int descriptor, const void* bytes, size_t count) override {
    if (!hit()) return FileLayer::write(descriptor, bytes, count);
    if (fault_ == Fault::torn_kill && calls_ == at_ + 1 && FileLayer::write(descriptor, bytes, count / 2) < 0)
      return -1;
    errno = ENOSPC;
    return -1;
  }
  int fsync(int descriptor) override { return hit() ? -1 : UnsyncedLayer::fsync(descriptor); }
  int close(int descriptor) override {
    const bool failed = hit();
    FileLayer::close(descriptor);  // a kill closes too
    return failed ? -1 : 0;
  }
  int rename(const std::string& from, const std::string& to) override {
    return hit() ? -1 : FileLayer::rename(from, to);
  }
  int exchange(const std::string& one, const std::string& other) override {
    return hit() ? -1 : FileLayer::exchange(one, other);
  }
  int unlink(const std::string& path) override { return hit() ? -1 : FileLayer::unlink(path); }
  int mkdir(const std::string& path, mode_t mode) override { return hit() ? -1 : FileLayer::mkdir(path, mode); }
  int rmdir(const std::string& path) override { return hit() ? -1 : FileLayer::rmdir(path); }

 private:
  bool hit() {
    const int call = calls_++;
    if (call != at_ && !(call > at_ && fault_ != Fault::no_space)) return false;
    errno = ENOSPC;
    return true;
  }

  Fault fault_;
  int at_;
  int calls_ = 0;
};

void save(const std::string& parent, int64_t step, float value) {
  const std::vector<NamedTensor> model{tensor_of<float>("a", {2}, {value, value}),
                                       tensor_of<float>("b", {2}, {value, value})};
  CheckpointContents contents;
  contents.state.step = step;
  contents.config_yaml = "{}\n";
  contents.model = model;
  save_checkpoint(parent, contents, 8);
}

float value_of(const std::string& path) {
  return Checkpoint(path).model().tensor({"a", DType::f32, {2}}).as<float>()[1];
}

/// Calls `action` on a fresh directory holding step 1, with the fault at call 0, 1, 2, ... until it is not reached any
/// more; after each `check` looks at what is left, on a layer without faults.
template <typename Action, typename Check>
int at_every_call(Fault fault, const Action& action, const Check& check) {
  UnsyncedLayer system;
  const InterposedFileLayer unsynced(system);
  for (int at = 0;; ++at) {
    const TemporaryDirectory directory;
    save(directory.path(), 1, 1.0f);
    FaultyLayer layer(fault, at);
    std::string error;
    {
      const InterposedFileLayer interposed(layer);
      error = error_of([&] { action(directory.path()); });
    }
    INFO("call " << at << ": " << error);
    check(directory.path(), error);
    if (!layer.reached()) return at;
  }
}
}  // namespace

TEST_CASE("A save that fails or is killed anywhere leaves the old checkpoint or the new one") {
  for (const Fault fault : {Fault::no_space, Fault::kill, Fault::torn_kill}) {
    const int calls = at_every_call(
        fault, [](const std::string& parent) { save(parent, 2, 2.0f); },
        [](const std::string& parent, const std::string& error) {
          const LatestCheckpoint latest = find_latest(parent);
          REQUIRE(latest.path.has_value());
          CHECK(latest.passed_over.empty());  // nothing half-written ever had a final name
          const bool is_new = value_of(*latest.path) == 2.0f;
          CHECK((is_new || !error.empty()));  // a save that reports success is there
          save(parent, 3, 3.0f);              // and the next one works
          CHECK(value_of(*find_latest(parent).path) == 3.0f);
          for (const auto& entry : fs::directory_iterator(parent))
            CHECK(entry.path().filename().string().front() != '.');
        });
    CHECK(calls > 30);  // two shards, index, config, state, manifest: each opened, written, synced, renamed
  }
}

TEST_CASE("A save over a checkpoint of the same step, failed or killed anywhere, leaves one of the two") {
  for (const Fault fault : {Fault::no_space, Fault::kill}) {
    at_every_call(
        fault, [](const std::string& parent) { save(parent, 1, 2.0f); },
        [](const std::string& parent, const std::string& error) {
          const LatestCheckpoint latest = find_latest(parent);
          REQUIRE(latest.path.has_value());
          CHECK(latest.passed_over.empty());
          CHECK((value_of(*latest.path) == 2.0f || !error.empty()));
        });
  }
}

TEST_CASE("A prune that fails or is killed anywhere leaves whole checkpoints only") {
  for (const Fault fault : {Fault::no_space, Fault::kill}) {
    const int calls = at_every_call(
        fault, [](const std::string& parent) { prune_checkpoints(parent, {1, 0}); },
        [](const std::string& parent, const std::string&) { CHECK(find_latest(parent).passed_over.empty()); });
    CHECK(calls == 0);  // step 1 alone is never touched
    at_every_call(
        fault,
        [](const std::string& parent) {
          if (!fs::exists(parent + "/step_00000002")) {
            UnsyncedLayer system;
            const InterposedFileLayer undisturbed(system);
            save(parent, 2, 2.0f);
          }
          prune_checkpoints(parent, {1, 0});
        },
        [](const std::string& parent, const std::string& error) {
          const LatestCheckpoint latest = find_latest(parent);
          CHECK(latest.passed_over.empty());
          CHECK(value_of(*latest.path) == 2.0f);
          if (fs::exists(parent + "/step_00000001")) {
            CHECK_FALSE(error.empty());
            CHECK(value_of(parent + "/step_00000001") == 1.0f);
          }
          prune_checkpoints(parent, {1, 0});
          CHECK(std::distance(fs::directory_iterator(parent), fs::directory_iterator()) == 1);
        });
  }
}
