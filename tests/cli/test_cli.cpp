// Exit codes and messages of the program: 0 and its result on stdout, 1 or 2 and one line on stderr.
#include <algorithm>

#include "run_strand.h"
#include "tests/catch.h"

using namespace strand;
using Catch::Contains;
using Catch::StartsWith;

namespace {
const std::string quickstart = STRAND_SOURCE_DIR "/configs/quickstart.yaml";

/// Checks that the program failed with `status`, said so on one line of stderr, and printed no result.
void check_refused(const Outcome& outcome, int status) {
  CHECK(outcome.status == status);
  CHECK(outcome.out.empty());
  CHECK_THAT(outcome.err, StartsWith("strand: error: "));
  CHECK(std::count(outcome.err.begin(), outcome.err.end(), '\n') == 1);
}
}  // namespace

TEST_CASE("help and version succeed and go to stdout") {
  const auto arguments = GENERATE(std::vector<std::string>{"--help"}, std::vector<std::string>{"--version"},
                                  std::vector<std::string>{"config", "--help"});
  const Outcome outcome = run_strand(arguments);
  CHECK(outcome.status == 0);
  CHECK_THAT(outcome.out, Contains("strand") || Contains("config"));
  CHECK(outcome.err.empty());
}

TEST_CASE("a command line that cannot be understood exits with 2") {
  const auto arguments =
      GENERATE(std::vector<std::string>{}, std::vector<std::string>{"confg"}, std::vector<std::string>{"--bogus"},
               std::vector<std::string>{"config"}, std::vector<std::string>{"config", "--bogus"},
               std::vector<std::string>{"config", "a.yaml", "b.yaml"}, std::vector<std::string>{"config", "--set"});
  check_refused(run_strand(arguments), 2);
}

TEST_CASE("an unknown command is answered with the nearest one") {
  CHECK_THAT(run_strand({"confg"}).err, Contains("unknown command 'confg' (did you mean 'config'?)"));
}

TEST_CASE("config prints the resolved configuration") {
  const Outcome outcome = run_strand({"config", quickstart, "--set", "moe.top_k=3", "--set", "run.seed=5"});
  CHECK(outcome.status == 0);
  CHECK(outcome.err.empty());
  CHECK_THAT(outcome.out, Contains("  top_k: 3\n") && Contains("  seed: 5\n") && Contains("  head_dim: 64\n"));
}

TEST_CASE("--set may stand before the configuration and takes one word") {
  CHECK(run_strand({"config", "--set", "moe.top_k=3", quickstart}).status == 0);
}

TEST_CASE("config warns about idle settings and still succeeds") {
  const Outcome outcome = run_strand({"config", quickstart, "--set", "moe.top_k=1"});
  CHECK(outcome.status == 0);
  CHECK_THAT(outcome.err, Contains("losses.sp_weight"));
}

TEST_CASE("config --help-keys needs no configuration") {
  const Outcome outcome = run_strand({"config", "--help-keys"});
  CHECK(outcome.status == 0);
  CHECK_THAT(outcome.out, Contains("losses.cp_sources") && Contains("all | activated"));
}

TEST_CASE("config --help-keys refuses a configuration, which it would not look at") {
  const Outcome outcome = run_strand({"config", "--help-keys", "moe"});
  CHECK(outcome.status == 2);
  CHECK_THAT(outcome.err, Contains("takes no CONFIG ('moe')"));
}

TEST_CASE("a path that the system refuses is named, and the standard library's functions are not") {
  const std::string name(300, 'x');
  const std::vector<std::vector<std::string>> commands = {{"inspect", name},
                                                          {"config", name},
                                                          {"plan", name},
                                                          {"eval", name, "--data", "x"},
                                                          {"export", name, "--out", name},
                                                          {"import", name, "--out", name},
                                                          {"tokenize", name, "--tokenizer", "x", "--out", name},
                                                          {"train", quickstart, "--set", "run.name=" + name}};
  for (const auto& command : commands) {
    const Outcome outcome = run_strand(command);
    INFO(command[0]);
    check_refused(outcome, 1);
    CHECK_THAT(outcome.err, Contains(name) && !Contains("filesystem error"));
  }
}

TEST_CASE("an error exits with 1 and says where") {
  const Outcome misspelt = run_strand({"config", quickstart, "--set", "moe.topk=3"});
  check_refused(misspelt, 1);
  CHECK_THAT(misspelt.err, Contains("did you mean 'moe.top_k'"));
  const Outcome impossible = run_strand({"config", quickstart, "--set", "moe.top_k=9"});
  check_refused(impossible, 1);
  CHECK_THAT(impossible.err, Contains("moe.num_experts at " + quickstart + ":"));
  check_refused(run_strand({"config", "no such\nfile.yaml"}), 1);
}
