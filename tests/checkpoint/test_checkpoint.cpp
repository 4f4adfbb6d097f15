// A checkpoint is whole or passed over. The newest undamaged one is found, and retention keeps what it must keep.
#include <algorithm>
#include <cmath>

#include "checkpoint/checkpoint.h"
#include "checkpoint/describe.h"
#include "checkpoint/run_state.h"
#include "core/version.h"
#include "fixtures.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;
using Catch::Matchers::Contains;
namespace fs = std::filesystem;

namespace {
const std::string tokenizer_bytes("\x0a\x00\xff tokenizer", 13);

/// A checkpoint whose weights say which step it is of.
std::string save(const std::string& parent, int64_t step, uint64_t shard_bytes = default_shard_bytes) {
  const auto value = static_cast<float>(step);
  const std::vector<NamedTensor> model{tensor_of<float>("embed", {2, 2}, {value, 1, 2, 3}),
                                       tensor_of<float>("norm", {2}, {value, value})};
  const std::vector<NamedTensor> optimizer{tensor_of<float>("m.embed", {2, 2}, {0, 0, 0, value}),
                                           tensor_of<float>("v.embed", {2, 2}, {0, 0, 0, 1})};
  CheckpointContents contents;
  contents.state.step = step;
  contents.state.next_sample = 8 * step;
  contents.state.seed = UINT64_MAX;
  contents.state.series["loss"] = {0.1, 1.0 / 3.0, std::nextafter(1.0, 2.0), -0.0};
  contents.state.versions["layout"] = "4 processes";
  contents.config_yaml = "run: {seed: 1}\n";
  contents.tokenizer = {{"tokenizer.model", tokenizer_bytes}};
  contents.model = model;
  contents.optimizer = optimizer;
  return save_checkpoint(parent, contents, shard_bytes);
}

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::string verify_error(const std::string& path) {
  return error_of([&] { verify_checkpoint(path); });
}

float first_weight(const std::string& path) {
  return Checkpoint(path).model().tensor({"embed", DType::f32, {2, 2}}).as<float>()[0];
}
}  // namespace

TEST_CASE("A checkpoint holds what was saved, exactly") {
  const TemporaryDirectory directory;
  const std::string parent = directory / "runs/a";
  const std::string path = save(parent, 1000);
  CHECK(path == parent + "/step_00001000");
  CHECK(names_in(parent) == std::vector<std::string>{"step_00001000"});
  CHECK(names_in(path) == std::vector<std::string>{"config.yaml", "manifest.json", "model.safetensors",
                                                   "optimizer.safetensors", "state.json", "tokenizer.model"});

  const Checkpoint checkpoint(path);
  CHECK(checkpoint.state().step == 1000);
  CHECK(checkpoint.state().next_sample == 8000);
  CHECK(checkpoint.state().seed == UINT64_MAX);
  CHECK(checkpoint.state().series.at("loss") == std::vector<double>{0.1, 1.0 / 3.0, std::nextafter(1.0, 2.0), -0.0});
  CHECK(std::signbit(checkpoint.state().series.at("loss")[3]));
  CHECK(checkpoint.state().versions.at("layout") == "4 processes");
  CHECK(checkpoint.state().versions.at("strand") == program_version());
  CHECK(checkpoint.config_yaml() == "run: {seed: 1}\n");
  CHECK(checkpoint.tokenizer() == NamedFiles{{"tokenizer.model", tokenizer_bytes}});
  CHECK(checkpoint.tokenizer_path() == path + "/tokenizer.model");
  CHECK(first_weight(path) == 1000.0f);
  CHECK(checkpoint.optimizer().tensor({"m.embed", DType::f32, {2, 2}}).as<float>()[3] == 1000.0f);
  CHECK_THAT(describe_checkpoint(path),
             Contains("step 1000") && Contains("complete and undamaged") && Contains("F32: 2 tensors, 6 elements"));
}

TEST_CASE("A state names the commit of the program that wrote it, not of the one before") {
  const auto versions_after = [](const std::string& commit) {
    set_program_commit(commit);
    RunState state;
    state.versions = {{"commit", "of another program"}, {"layout", "4 processes"}};
    const auto written = run_state_from_json(run_state_to_json(state), "here").versions;
    set_program_commit("");
    return written;
  };
  CHECK(versions_after("0123456789ab").at("commit") == "0123456789ab");
  CHECK(versions_after("").count("commit") == 0);  // built outside a clone
  CHECK(versions_after("").at("layout") == "4 processes");
}

TEST_CASE("A checkpoint in shards, and one without optimizer or tokenizer") {
  const TemporaryDirectory directory;
  UnsyncedLayer layer;
  const InterposedFileLayer unsynced(layer);
  const std::string sharded = save(directory.path(), 1, 8);
  CHECK(fs::exists(sharded + "/model.safetensors.index.json"));
  CHECK(first_weight(sharded) == 1.0f);

  const std::vector<NamedTensor> model{tensor_of<float>("embed", {2, 2}, {9, 1, 2, 3})};
  CheckpointContents contents;
  contents.state.step = 2;
  contents.model = model;
  const Checkpoint weights(save_checkpoint(directory.path(), contents));
  CHECK_FALSE(weights.has_optimizer());
  CHECK(weights.tokenizer().empty());
  CHECK_THAT(error_of([&] { weights.tokenizer_path(); }), Contains("holds no tokenizer"));
  CHECK_THAT(error_of([&] { weights.optimizer(); }), Contains("weights only"));
  contents.state.series["loss"] = {NAN};
  CHECK_THAT(error_of([&] { save_checkpoint(directory.path(), contents); }), Contains("\"loss\" is not finite"));
}

TEST_CASE("A tokenizer of several files is carried along") {
  const TemporaryDirectory directory;
  const std::vector<NamedTensor> model{tensor_of<float>("embed", {2, 2}, {9, 1, 2, 3})};
  CheckpointContents contents;
  contents.model = model;
  contents.config_yaml = "run: {}\n";
  contents.tokenizer = {{"tokenizer.json", "{}"}, {"tokenizer_config.json", "{\"eos_token\": null}"}};
  const Checkpoint checkpoint(save_checkpoint(directory.path(), contents));
  CHECK(checkpoint.tokenizer() == contents.tokenizer);
  CHECK(checkpoint.tokenizer_path() == checkpoint.path() + "/tokenizer.json");
}

TEST_CASE("A flipped bit is seen, in whichever file and place") {
  const TemporaryDirectory directory;
  UnsyncedLayer layer;
  const InterposedFileLayer unsynced(layer);
  const std::string path = save(directory.path(), 7);
  REQUIRE(verify_error(path).empty());
  for (const std::string& name : names_in(path)) {
    const std::string file = path + "/" + name, whole = get(file);
    for (size_t byte = 0; byte < whole.size(); byte += name == "manifest.json" ? 1 : 5) {
      const int bit = static_cast<int>(byte % 8);
      flip_bit(file, byte, bit);
      if (verify_error(path).empty()) FAIL_CHECK(name << " byte " << byte << " bit " << bit);
      put(file, whole);
    }
  }
  CHECK(verify_error(path).empty());
}

TEST_CASE("Truncated, missing, longer and foreign files are named") {
  const TemporaryDirectory directory;
  UnsyncedLayer layer;
  const InterposedFileLayer unsynced(layer);
  const std::string path = save(directory.path(), 7);
  for (const std::string& name : names_in(path)) {
    const std::string file = path + "/" + name, whole = get(file);
    put(file, whole.substr(0, whole.size() - 1));
    CHECK_THAT(verify_error(path),
               Contains(name) && Contains(name == "manifest.json" ? "not valid JSON" : "bytes and should have"));
    put(file, whole + "x");
    CHECK_THAT(verify_error(path), Contains(name));
    fs::remove(file);
    CHECK_THAT(verify_error(path), Contains(name) && Contains("is missing"));
    fs::create_symlink("/dev/null", file);
    CHECK_FALSE(verify_error(path).empty());
    fs::remove(file);
    put(file, whole);
  }
  put(path + "/model.safetensors.index.json", "{}");
  CHECK_THAT(verify_error(path), Contains("is not listed in manifest.json"));
  CHECK_THAT(describe_checkpoint(path), Contains("DAMAGED"));
  CHECK_THAT(verify_error(directory / "absent"), Contains("not a directory"));
}

TEST_CASE("A manifest cannot point outside its directory") {
  const TemporaryDirectory directory;
  UnsyncedLayer layer;
  const InterposedFileLayer unsynced(layer);
  const std::string path = save(directory.path(), 7), file = path + "/manifest.json";
  std::string text = get(file);
  text.replace(text.find("config.yaml"), 11, "../../other");
  put(file, text);
  CHECK_THAT(verify_error(path), Contains("no plain file name"));
}

TEST_CASE("The newest undamaged checkpoint is found, and the others are named with their reasons") {
  const TemporaryDirectory directory;
  UnsyncedLayer layer;
  const InterposedFileLayer unsynced(layer);
  CHECK_FALSE(find_latest(directory / "absent").path.has_value());
  CHECK_FALSE(find_latest(directory.path()).path.has_value());
  for (const int64_t step : {9, 10, 100, 110}) save(directory.path(), step);
  fs::create_directory(directory / "step_9");                            // not our spelling
  fs::create_directory(directory / ".step_00000999.tmp");                // never finished
  fs::create_directory(directory / "step_00000500");                     // emptied
  fs::rename(directory / "step_00000110", directory / "step_00000600");  // renamed by hand
  flip_bit(directory / "step_00000100/optimizer.safetensors", 199, 3);
  const LatestCheckpoint latest = find_latest(directory.path());
  CHECK(latest.path == directory / "step_00000010");
  REQUIRE(latest.passed_over.size() == 3);
  CHECK(latest.passed_over[0].path == directory / "step_00000600");
  CHECK_THAT(latest.passed_over[0].reason, Contains("renamed"));
  CHECK_THAT(latest.passed_over[1].reason, Contains("manifest.json is missing"));
  CHECK_THAT(latest.passed_over[2].reason, Contains("optimizer.safetensors is damaged"));
  CHECK(first_weight(*latest.path) == 10.0f);
}

TEST_CASE("Retention keeps the newest undamaged ones, the milestones and everything damaged") {
  const TemporaryDirectory directory;
  UnsyncedLayer layer;
  const InterposedFileLayer unsynced(layer);
  for (int64_t step = 1; step <= 6; ++step) save(directory.path(), step);
  flip_bit(directory / "step_00000006/model.safetensors", 100, 0);
  flip_bit(directory / "step_00000002/model.safetensors", 100, 0);
  fs::create_directory(directory / ".step_00000999.tmp");
  put(directory / ".step_00000999.tmp/x", "x");
  fs::create_directory(directory / ".step_00000998.tmp.tmp");  // a signal's handler was removing it
  put(directory / "notes.tmp", "mine");
  const auto removed = prune_checkpoints(directory.path(), {2, 3});
  // 6 is damaged, so 5 and 4 are the two; 3 is a milestone; 2 is damaged; 1 goes.
  CHECK(removed == std::vector<std::string>{directory / "step_00000001"});
  CHECK(names_in(directory.path()) == std::vector<std::string>{"notes.tmp", "step_00000002", "step_00000003",
                                                               "step_00000004", "step_00000005", "step_00000006"});
  CHECK(prune_checkpoints(directory.path(), {1, 0}).size() == 2);
  CHECK(find_latest(directory.path()).path == directory / "step_00000005");
  CHECK_THAT(error_of([&] { prune_checkpoints(directory.path(), {0, 0}); }), Contains("at least one"));
}

TEST_CASE("Saving a step again replaces it in one step") {
  const TemporaryDirectory directory;
  UnsyncedLayer layer;
  const InterposedFileLayer unsynced(layer);
  const std::string path = save(directory.path(), 5);
  flip_bit(path + "/model.safetensors", 100, 0);
  save(directory.path(), 5);
  CHECK(verify_error(path).empty());
  CHECK(names_in(directory.path()) == std::vector<std::string>{"step_00000005"});
}

TEST_CASE("Several writers share one checkpoint") {
  const TemporaryDirectory directory;
  UnsyncedLayer layer;
  const InterposedFileLayer unsynced(layer);
  CHECK_THAT(error_of([&] { CheckpointWriter::join(directory.path(), 3); }), Contains("has not created"));
  CheckpointWriter first = CheckpointWriter::create(directory.path(), 3);
  const CheckpointWriter second = CheckpointWriter::join(directory.path(), 3);
  const std::vector<NamedTensor> a{tensor_of<float>("embed", {2, 2}, {3, 1, 2, 3})},
      b{tensor_of<float>("norm", {1}, {5})};
  const auto write = [](const CheckpointWriter& writer, size_t index, const std::vector<NamedTensor>& tensors) {
    const std::string name = shard_name("model", index, 2);
    return WrittenFile{name, write_safetensors(writer.directory() + "/" + name, tensors)};
  };
  first.add(write(first, 0, a));
  first.add(write(second, 1, b));  // as its record arrives from the other process
  first.add(write_shard_index(first.directory(), "model",
                              {{"embed", shard_name("model", 0, 2)}, {"norm", shard_name("model", 1, 2)}}, 20));
  CHECK_THAT(error_of([&] { first.commit(); }), Contains("without state.json"));
  RunState state;
  state.step = 3;
  first.write_state(state);
  first.write_file("config.yaml", "{}\n");
  const std::string path = first.commit();
  CHECK(verify_error(path).empty());
  CHECK(first_weight(path) == 3.0f);
}
