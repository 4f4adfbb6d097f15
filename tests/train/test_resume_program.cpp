// Resume through the program itself: a kill from outside, a checkpoint that is all that is left of its run, and a
// tokenizer that is not the model's.
#include <signal.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "tests/catch.h"
#include "tests/e2e/workspace.h"

namespace strand::test {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;
using Catch::StartsWith;
using nlohmann::json;

TEST_CASE("Killed from outside at any moment, a run continues to the same weights") {
  const Workspace space;
  const std::vector<std::string> longer = {"--set", "train.steps=60", "--set", "train.checkpoint_every=7"};
  space.trained("whole", longer);
  const Outcome killed = run_strand(space.train("killed", longer), space.root(), [&](pid_t process) {
    while (!fs::exists(space.checkpoint("killed", 14)) && kill(process, 0) == 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    kill(process, SIGKILL);
  });
  CHECK(killed.status == 128 + SIGKILL);
  space.trained("killed", longer);
  for (const char* file : {"model.safetensors", "optimizer.safetensors", "state.json"})
    CHECK(bytes_of(space.checkpoint("whole", 60) / file) == bytes_of(space.checkpoint("killed", 60) / file));
  std::vector<json> whole = space.log("whole"), rows = space.log("killed");
  for (std::vector<json>* log : {&whole, &rows})
    for (json& row : *log)
      for (const char* clock : {"tokens_per_second", "mfu", "step_seconds", "peak_bytes"}) row.erase(clock);
  CHECK(rows.size() == 61);
  CHECK(rows == whole);
}

TEST_CASE("A checkpoint is all that eval and generate need") {
  const Workspace space;
  space.trained("gone");
  const json last = space.log("gone").back();
  fs::copy(space.checkpoint("gone", 20), space.root() / "only", fs::copy_options::recursive);
  for (const char* name : {"runs", "text", "tiny.yaml", "tokenizer.model", "train.bin", "train.idx"})
    REQUIRE(fs::remove_all(space.root() / name) > 0);
  const Outcome eval = space.strand({"eval", "only", "--data", "val", "--batch-size", "4", "--json"});
  INFO(eval.err);
  REQUIRE(eval.status == 0);
  CHECK(json::parse(eval.out)["ce"].get<double>() == Approx(last["val_loss"].get<double>()).epsilon(1e-6));
  const Outcome words = space.strand({"generate", "only", "--prompt", "The river", "--max-tokens", "8"});
  INFO(words.err);
  CHECK(words.status == 0);
  CHECK_THAT(words.out, StartsWith("The river"));
}

TEST_CASE("A model is not continued with another tokenizer, be it of the same size") {
  const Workspace space;
  space.trained("run");
  fs::create_directory(space.root() / "other");
  std::string text = bytes_of(space.root() / "text" / "tales.jsonl");
  for (char& c : text)
    if (c >= 'a' && c <= 'z') c = static_cast<char>('a' + (c - 'a' + 13) % 26);
  std::ofstream(space.root() / "other" / "tales.txt") << text;
  const Outcome made = space.strand(
      {"train-tokenizer", "other", "--vocab-size", std::to_string(Workspace::vocab_size), "--out", "other.model"});
  INFO(made.err);
  REQUIRE(made.status == 0);
  REQUIRE(space.strand({"tokenize", "text", "--tokenizer", "other.model", "--out", "other-ids"}).status == 0);
  const std::vector<std::string> other = {"--set", "data.tokenizer=other.model", "--set", "data.train=other-ids",
                                          "--set", "data.val=other-ids",         "--set", "train.steps=25"};
  const Outcome refused = space.strand(space.train("run", other));
  CHECK(refused.status == 1);
  CHECK_THAT(refused.err, Contains("data.tokenizer other.model is not the tokenizer"));
  // Without one, the model's own goes with it.
  fs::remove(space.root() / "tokenizer.model");
  const Outcome without = space.strand(
      space.train("run", {"--set", "data.tokenizer=''", "--set", "model.vocab_size=320", "--set", "train.steps=25"}));
  INFO(without.err);
  CHECK(without.status == 0);
  CHECK(bytes_of(space.checkpoint("run", 25) / "tokenizer.model") ==
        bytes_of(space.checkpoint("run", 20) / "tokenizer.model"));
}

}  // namespace
}  // namespace strand::test
