// Several writers, here threads, write one checkpoint. What they leave is a checkpoint like any other, or none.
#include "tests/catch.h"
#include <exception>
#include <thread>

#include "checkpoint/shared_checkpoint.h"
#include "core/error.h"
#include "fixtures.h"

using namespace strand;
using namespace strand::test;
namespace fs = std::filesystem;

namespace {
constexpr int writers = 3;
constexpr uint64_t shard_bytes = 64;  // two tensors of eight floats
constexpr double patience = 60;       // seconds; only ever spent where a writer is missing

/// Tensors of eight floats: writer 0 has three (two shards), writer 1 none, writer 2 one.
struct Share {
  std::vector<std::vector<float>> values;
  std::vector<NamedTensor> tensors;

  explicit Share(int writer) {
    const int counts[writers] = {3, 0, 1};
    for (int i = 0; i < counts[writer]; ++i) values.emplace_back(8, static_cast<float>(10 * writer + i));
    for (size_t i = 0; i < values.size(); ++i)
      tensors.push_back(host_tensor(fmt::format("w{}.{}", writer, i), Tensor{values[i].data(), DType::f32, {8}}));
  }
  CheckpointContents contents() const {
    CheckpointContents c;
    c.state.step = 7;
    c.config_yaml = "run: {}\n";
    c.model = tensors;
    c.optimizer = tensors;
    return c;
  }
};

WriterPlace place_of(int writer) {
  const WriterPlace::Shards shards{writer == 0 ? size_t{0} : size_t{2}, 3};
  return {.writer = writer, .writers = writers, .model = shards, .optimizer = shards};
}

std::string finish(const std::string& parent, const Share& share, double seconds = patience, bool give_up = false) {
  CheckpointWriter writer = CheckpointWriter::create(parent, 7);
  const std::atomic<bool> abandon{give_up};
  return finish_shared_checkpoint(writer, share.contents(), place_of(0), seconds, abandon, shard_bytes);
}
}  // namespace

TEST_CASE("Several writers leave one checkpoint; one of them may have nothing to write") {
  const TemporaryDirectory directory;
  const std::string parent = directory / "checkpoints";
  Share shares[writers] = {Share(0), Share(1), Share(2)};
  CHECK(shard_count(shares[0].tensors, shard_bytes) == 2);
  CHECK(shard_count(shares[1].tensors, shard_bytes) == 0);

  CheckpointWriter writer = CheckpointWriter::create(parent, 7);
  std::vector<std::thread> others;
  for (int w = 1; w < writers; ++w)
    others.emplace_back([&, w] { write_checkpoint_part(parent, shares[w].contents(), place_of(w), shard_bytes); });
  const std::atomic<bool> abandon{false};
  const std::string path =
      finish_shared_checkpoint(writer, shares[0].contents(), place_of(0), patience, abandon, shard_bytes);
  for (std::thread& t : others) t.join();

  const Checkpoint checkpoint(path);  // verifies: no file is missing, none is there beyond the manifest
  CHECK(checkpoint.state().step == 7);
  CHECK(checkpoint.model().files().size() == 3);
  CHECK(checkpoint.model().items().size() == 4);
  for (const Share& share : shares)
    for (size_t i = 0; i < share.tensors.size(); ++i)
      for (const TensorSource* source : {&checkpoint.model(), &checkpoint.optimizer()}) {
        const auto bytes = source->at(share.tensors[i].name).bytes();
        REQUIRE(bytes.size() == 32);
        CHECK(std::memcmp(bytes.data(), share.values[i].data(), 32) == 0);
      }
}

TEST_CASE("The error of any writer is the first one's, and nothing is left") {
  const TemporaryDirectory directory;
  const std::string parent = directory / "checkpoints";
  const Share first(0), none(1);
  Share broken(2);
  broken.tensors[0].read = [](void*, size_t, size_t) { fail("the device is on fire"); };
  CheckpointWriter writer = CheckpointWriter::create(parent, 7);
  write_checkpoint_part(parent, none.contents(), place_of(1), shard_bytes);
  CHECK_THROWS_WITH(write_checkpoint_part(parent, broken.contents(), place_of(2), shard_bytes),
                    Catch::Contains("the device is on fire"));
  const std::atomic<bool> abandon{false};
  CHECK_THROWS_WITH(finish_shared_checkpoint(writer, first.contents(), place_of(0), patience, abandon, shard_bytes),
                    Catch::StartsWith("rank 2: ") && Catch::Contains("the device is on fire"));
  CHECK(fs::is_empty(parent));
}

TEST_CASE("A writer that never comes is named, and waiting for it can be given up") {
  const TemporaryDirectory directory;
  const std::string parent = directory / "checkpoints";
  const Share first(0);
  CHECK_THROWS_WITH(finish(parent, first, 0.05), Catch::Contains("rank 1 has not written its part"));
  CHECK(fs::is_empty(parent));
  CHECK_THROWS_AS(finish(parent, first, patience, true), Abandoned);
  CHECK(fs::is_empty(parent));
}
