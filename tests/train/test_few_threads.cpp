// A system that starts no more threads, as a limit of processes makes it: a command says so, and a run that is under
// way goes on.
#include <stdlib.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/catch.h"
#include "tests/e2e/workspace.h"

namespace strand {
namespace {

using Catch::Contains;

Outcome with_threads(int threads, const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {strand_program()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  const auto in_child = [threads] {
    setenv("LD_PRELOAD", FEW_THREADS, 1);
    setenv("FEW_THREADS", std::to_string(threads).c_str(), 1);
  };
  return run_started(words, {.directory = workspace().root(), .in_child = in_child, .meanwhile = {}});
}
}  // namespace

TEST_CASE("A command that needs more threads than the system starts says so") {
  for (const int threads : {0, 1, 2}) {
    const Outcome outcome =
        with_threads(threads, {"tokenize", "text", "--tokenizer", "tokenizer.model", "--out", "few", "--threads", "2"});
    INFO(threads << ": " << outcome.err);
    CHECK(outcome.status == 1);
    CHECK_THAT(outcome.err, Contains("error: cannot start a thread"));
  }
}

TEST_CASE("A checkpoint for whose writer there is no thread is written all the same") {
  // As many as training needs to begin, which differs between libraries, and none for what comes after.
  const auto log = workspace().run("few") / "log.jsonl";
  Outcome outcome;
  for (int threads = 2; threads < 16 && !(std::filesystem::exists(log) && std::filesystem::file_size(log) > 0);)
    outcome = with_threads(++threads, workspace().train("few", {"--set", "train.eval_every=0"}));
  INFO(outcome.err);
  CHECK(outcome.status == 0);
  CHECK_THAT(outcome.out, Contains("checkpoint runs/few/checkpoints/step_00000010"));
  CHECK(std::filesystem::exists(workspace().checkpoint("few", 20) / "model.safetensors"));
}

}  // namespace strand
