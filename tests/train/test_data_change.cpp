// Training data that is not what it should be: an id outside the vocabulary, and files that changed under a run.
#include <fmt/core.h>

#include <chrono>
#include <fstream>
#include <thread>

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
  // The new checkpoint holds the fingerprint of the new data.
  run.config().train.steps = 8;
  run.complete();
}

TEST_CASE("A validation file that changed under its path is said on resume, and the run goes on") {
  Config c = smallest_config();
  c.data.val = {{.path = "val.bin", .format = "raw_u16"}};
  c.train.eval_every = 2;
  c.train.eval_batches = 1;
  DrivenRun run(c);
  const std::string val = run.directory() + "/val.bin";
  fs::copy_file(run.directory() + "/tokens.bin", val);
  run.complete();
  run.config().train.steps = 6;
  Ended ended = run.train();
  INFO(ended.errors);
  CHECK(ended.status == 0);
  CHECK_THAT(ended.errors, !Contains("validation data"));
  set_id(val, 50, 1);
  set_id(val, 51, 2);
  run.config().train.steps = 8;
  ended = run.train();
  INFO(ended.errors);
  CHECK(ended.status == 0);
  CHECK_THAT(ended.errors, Contains("the validation data is not what it was; data.val[0]: 97 ids of u16"));
  CHECK(run.steps().back() == 8);
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

TEST_CASE("A finished run whose configuration changed keeps its own, and all that it has") {
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

/// One update at such a rate makes weights that are numbers, and whose products are not.
Config exploding() {
  Config c = smallest_config();
  c.optimizer.lr = c.optimizer.min_lr = 1e30;
  c.optimizer.weight_decay = 0;
  c.train.checkpoint_every = 1;
  return c;
}

TEST_CASE("Finite weights whose loss or gradient overflows are not saved in place of those before them") {
  Config c = exploding();
  c.train.on_nonfinite = GENERATE(OnNonfinite::stop, OnNonfinite::skip);
  DrivenRun run(c);
  run.config().optimizer.lr = 1e-2;
  run.config().train.steps = 2;
  run.complete();
  const Remains before = run.remains();
  run.config() = c;
  for (const int64_t steps : {3, 5}) {  // the last step, whose loss no further one would show; and one in the middle
    run.config().train.steps = steps;
    const Ended ended = run.train();
    INFO(ended.errors);
    CHECK(ended.status == 1);
    CHECK_THAT(ended.errors, Contains("after step 3, every weight is finite, but the loss is "));
    CHECK_THAT(ended.errors, Contains("the checkpoint of step 2 is intact"));
    CHECK(run.remains().checkpoints == before.checkpoints);
  }
}

TEST_CASE("Skipped steps do not hide that the last update ruined the weights") {
  Config c = exploding();
  c.train.on_nonfinite = OnNonfinite::skip;
  c.train.checkpoint_every = 3;  // two steps after the ruin
  DrivenRun run(c);
  const Ended ended = run.train();
  INFO(ended.errors);
  CHECK(ended.status == 1);
  CHECK_THAT(ended.errors, Contains("after step 3, every weight is finite, but the loss is "));
  CHECK_FALSE(fs::exists(run.checkpoint(3)));
}

TEST_CASE("Steps that overflow one after another end the program with an error, as train.max_skips_in_a_row says") {
  Config c = exploding();
  c.train.on_nonfinite = OnNonfinite::skip;
  c.train.max_skips_in_a_row = 2;
  c.train.checkpoint_every = 0;
  DrivenRun run(c);
  const Ended ended = run.train();
  INFO(ended.errors);
  CHECK(ended.status == 1);
  CHECK_THAT(ended.errors, Contains("step 4: loss "));
  CHECK_THAT(ended.errors, Contains("2 steps in a row were skipped before it (train.max_skips_in_a_row)"));
  CHECK_THAT(ended.errors, Contains("no checkpoint had been written"));
}

// The test shortens the file when the row of a step is written: a run of strand under the eyes of its log.
TEST_CASE("A token file that becomes shorter while a run reads it ends the run with a checkpoint") {
  const bool validation = GENERATE(false, true);
  Config c = smallest_config();
  c.train.steps = 1000000;
  c.train.checkpoint_every = 0;
  c.data.val = c.data.train;
  if (validation) c.data.val[0].path = "val.bin";
  c.train.eval_every = 50;
  DrivenRun run(c);
  const std::string tokens = run.directory() + "/tokens.bin";
  if (validation) fs::copy_file(tokens, run.directory() + "/val.bin");
  const std::string shortened = validation ? run.directory() + "/val.bin" : tokens;
  std::thread other([&] {
    while (!fs::exists(run.run() / "log.jsonl") || fs::file_size(run.run() / "log.jsonl") == 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    fs::resize_file(shortened, 10);
  });
  const Ended ended = run.train();
  other.join();
  INFO(ended.errors);
  CHECK(ended.status == 1);
  CHECK_THAT(ended.errors, Contains(validation ? "val.bin" : "tokens.bin"));
  CHECK_THAT(ended.errors, Contains("has become shorter while it was in use"));
  REQUIRE(run.steps().size() == 1);
  const std::string last = std::to_string(run.steps()[0]);
  CHECK_THAT(ended.errors,
             Contains("Stopped after step " + last) && Contains("the checkpoint of step " + last + " is"));
}

}  // namespace
}  // namespace strand::test
