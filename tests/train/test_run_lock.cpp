// A run that is started twice, and other commands at a directory in which a run is being trained.
#include <signal.h>
#include <unistd.h>

#include "core/place_lock.h"
#include "tests/catch.h"
#include "tests/e2e/workspace.h"

namespace strand {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

Outcome strand_here(const std::vector<std::string>& arguments) {
  return workspace().strand(arguments);
}
}  // namespace

TEST_CASE("A run in progress is not started again, and its directory can be read") {
  const Workspace& space = workspace();
  space.trained("source");
  REQUIRE(strand_here({"export", "runs/source", "--out", "hf"}).status == 0);
  const std::vector<std::string> longer = {"--set", "train.steps=100000", "--set", "train.eval_every=0"};
  const Outcome first = run_strand(space.train("twice", longer), space.root(), [&](pid_t process) {
    while (!fs::exists(space.checkpoint("twice", 10)) && kill(process, 0) == 0) usleep(2000);
    const std::string who = "runs/twice is in use by process " + std::to_string(process) + " on host ";
    std::vector<std::string> other_rate = longer;
    other_rate.insert(other_rate.end(), {"--set", "optimizer.lr=3.0e-3"});
    for (const Outcome& second :
         {strand_here(space.train("twice", other_rate)), strand_here({"import", "hf", "--out", "runs/twice"}),
          strand_here({"import", "hf", "--out", "runs/twice/checkpoints/step_00000000"})}) {
      CHECK(second.status == 1);
      CHECK_THAT(second.err, Contains(who));
    }
    for (const Outcome& reader :
         {strand_here({"inspect", "runs/twice"}), strand_here({"eval", "runs/twice", "--data", "val"}),
          strand_here({"export", "runs/twice", "--out", "hf_twice"})}) {
      INFO(reader.err);
      CHECK(reader.status == 0);
    }
    kill(process, SIGTERM);
  });
  CHECK(first.status == 0);
  CHECK(!fs::exists(space.run("twice") / ".lock"));
  const std::vector<nlohmann::json> rows = space.log("twice");
  for (size_t i = 0; i < rows.size(); ++i) CHECK(rows[i]["step"] == i + 1);
}

TEST_CASE("A killed run does not block the next one") {
  const Workspace& space = workspace();
  const Outcome killed =
      run_strand(space.train("killed", {"--set", "train.steps=100000"}), space.root(), [&](pid_t process) {
        while (!fs::exists(space.checkpoint("killed", 10)) && kill(process, 0) == 0) usleep(2000);
        kill(process, SIGKILL);
      });
  REQUIRE(killed.status == 128 + SIGKILL);
  CHECK(fs::exists(space.run("killed") / ".lock"));
  const Outcome looked_at = strand_here({"inspect", "runs/killed"});
  CHECK(looked_at.status == 0);
  // It gets as far as to see what is there.
  const Outcome next = strand_here(space.train("killed", {"--resume", "never"}));
  CHECK_THAT(next.err, Contains("runs/killed already holds a run"));
}

TEST_CASE("A run that is refused leaves no directory") {
  const Outcome refused = strand_here(workspace().train("refused", {"--set", "data.train=nothing"}));
  CHECK(refused.status == 1);
  CHECK(!fs::exists(workspace().run("refused")));
}

TEST_CASE("What another command is writing is written by no second one") {
  const Workspace& space = workspace();
  const std::vector<std::vector<std::string>> commands = {
      {"tokenize", "text", "--tokenizer", "tokenizer.model", "--out", "busy"},
      {"tokenize", "text", "--tokenizer", "tokenizer.model", "--out", "free", "--val-out", "busy", "--val-fraction",
       "0.5"},
      {"train-tokenizer", "text", "--vocab-size", "320", "--out", "busy"},
      {"export", "runs/source", "--out", "busy"},
      {"eval", "runs/source", "--data", "val", "--logits", "busy"},
      {"bench", "tiny.yaml", "--json", "busy"},
      {"bench", "tiny.yaml", "--checkpoint", "busy_directory"}};
  const PlaceLock::Request request{.command = "strand test", .otherwise = ""};
  const PlaceLock busy = PlaceLock::of_output((space.root() / "busy").string(), request);
  const PlaceLock directory = PlaceLock::of_directory((space.root() / "busy_directory").string(), request);
  for (const auto& command : commands) {
    INFO(command[0]);
    const Outcome outcome = strand_here(command);
    CHECK(outcome.status == 1);
    CHECK_THAT(outcome.err, Contains("is in use by process " + std::to_string(getpid()) + " on host"));
  }
}

TEST_CASE("A device is not replaced by a file") {
  const Outcome outcome = strand_here({"eval", "runs/source", "--data", "val", "--logits", "/dev/null"});
  CHECK(outcome.status == 1);
  CHECK_THAT(outcome.err, Contains("/dev/null: it is not a file"));
  CHECK(fs::is_character_file("/dev/null"));
}

}  // namespace strand
