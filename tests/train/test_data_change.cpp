// Training data that is not what it should be: an id outside the vocabulary, and files that changed under a run.
#include <fmt/core.h>

#include <fstream>

#include "driven_run.h"
#include "tests/catch.h"

namespace strand::test {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

/// Overwrites id `token` of a file of two-byte ids, in place: processes that have it mapped see it.
void set_id(const fs::path& path, int64_t token, uint16_t id) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(token * 2);
  file.write(reinterpret_cast<const char*>(&id), sizeof id);
}

/// Long enough that the scan of the file ends before the run does.
Config long_config() {
  Config c = smallest_config();
  c.train.steps = 20000;
  c.train.checkpoint_every = 0;
  return c;
}

TEST_CASE("An id outside the vocabulary ends a run with a checkpoint, and names its place") {
  DrivenRun run(long_config());
  set_id(run.directory() + "/tokens.bin", 96, 19);  // the last token; the vocabulary has 19
  const Ended ended = run.train();
  INFO(ended.errors);
  CHECK(ended.status == 1);
  CHECK_THAT(ended.errors, Contains("tokens.bin: token 96 has the id 19, outside a vocabulary of 19"));
  // Found by the scan or by a later batch, never by the first: the order of the windows follows from the seed.
  REQUIRE(run.steps().size() == 1);
  CHECK_THAT(ended.errors, Contains(fmt::format("Stopped after step {}; the checkpoint of step {} is intact",
                                                run.steps()[0], run.steps()[0])));
}

TEST_CASE("A bad id in the validation data is found as well") {
  Config c = long_config();
  c.data.val = {{.path = "val.bin", .format = "raw_u16"}};
  c.train.eval_every = 20000;
  c.train.eval_batches = 1;
  DrivenRun run(c);
  fs::copy_file(run.directory() + "/tokens.bin", run.directory() + "/val.bin");
  set_id(run.directory() + "/val.bin", 3, 65535);
  const Ended ended = run.train();
  INFO(ended.errors);
  CHECK(ended.status == 1);
  CHECK_THAT(ended.errors, Contains("val.bin: token 3 has the id 65535"));
}

TEST_CASE("A file that changed under its path is refused on resume, or accepted by the option") {
  DrivenRun run(smallest_config());
  run.complete();
  run.config().train.steps = 6;
  const Remains before = run.remains();
  set_id(run.directory() + "/tokens.bin", 50, 1);
  set_id(run.directory() + "/tokens.bin", 51, 2);
  const Ended refused = run.train();
  INFO(refused.errors);
  CHECK(refused.status == 1);
  CHECK_THAT(refused.errors, Contains("the training data is not what it was"));
  CHECK_THAT(refused.errors, Contains("data.train[0]: 97 ids of u16"));
  CHECK_THAT(refused.errors, Contains("--accept-data-change"));
  CHECK(run.remains() == before);
  const Ended accepted = run.train_accepting_data_change();
  INFO(accepted.errors);
  CHECK(accepted.status == 0);
  CHECK(run.steps().back() == 6);
  // The new checkpoint knows the new data.
  run.config().train.steps = 8;
  run.complete();
}

TEST_CASE("A moved file is the same data; another sequence length is not") {
  DrivenRun run(smallest_config());
  run.complete();
  fs::rename(run.directory() + "/tokens.bin", run.directory() + "/moved.bin");
  run.config().data.train[0].path = "moved.bin";
  run.config().train.steps = 6;
  run.complete();
  run.config().data.sequence_length = 4;
  run.config().train.steps = 8;
  const Ended refused = run.train();
  CHECK(refused.status == 1);
  CHECK_THAT(refused.errors, Contains("data.sequence_length: 8 became 4"));
}

TEST_CASE("A finished run says that nothing was trained, and keeps its configuration") {
  DrivenRun run(smallest_config());
  run.complete();
  const std::string config = file_bytes(run.run() / "config.yaml");
  const Remains before = run.remains();
  run.config().optimizer.lr = 0.5;
  const Ended ended = run.train();
  CHECK(ended.status == 0);
  CHECK(run.remains() == before);
  CHECK(file_bytes(run.run() / "config.yaml") == config);
}

TEST_CASE("Weights that are not finite are never saved, and skipping does not go on with them") {
  Config c = smallest_config();
  c.optimizer.lr = 1e38;
  c.optimizer.weight_decay = 1e10;
  c.optimizer.min_lr = 1e38;
  c.train.on_nonfinite = GENERATE(OnNonfinite::stop, OnNonfinite::skip);
  c.train.checkpoint_every = 1;
  DrivenRun run(c);
  const Ended ended = run.train();
  INFO(ended.errors);
  CHECK(ended.status == 1);
  CHECK_THAT(ended.errors, Contains("weight "));
  CHECK_THAT(ended.errors, Contains("is not finite"));
  CHECK_THAT(ended.errors, Contains("no checkpoint had been written"));
  CHECK_FALSE(fs::exists(run.checkpoint(1)));
}

}  // namespace
}  // namespace strand::test
