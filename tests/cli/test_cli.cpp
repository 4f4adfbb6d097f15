// Exit codes and messages of the program: 0 and its result on stdout, 1 or 2 and one line on stderr.
#include <algorithm>
#include <filesystem>
#include <fstream>

#include "run_strand.h"
#include "tests/catch.h"
#include "tests/temporary_directory.h"

using namespace strand;
using Catch::Contains;
using Catch::StartsWith;

namespace {
namespace fs = std::filesystem;
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
  CHECK_THAT(run_strand({"xyzzy"}).err, Contains("unknown command 'xyzzy' (strand --help lists them)"));
  CHECK_THAT(run_strand({"help"}).err, Contains("(write 'strand --help')"));
  CHECK_THAT(run_strand({"help", "plan"}).err, Contains("(write 'strand plan --help')"));
  CHECK_THAT(run_strand({"version"}).err, Contains("(write 'strand --version')"));
  CHECK_THAT(run_strand({"a/b.yaml"}).err, Contains("(did you mean 'strand train a/b.yaml'?)"));
}

TEST_CASE("an unknown option is answered with the nearest one of the command, whatever else is wrong") {
  const auto error = [](const std::vector<std::string>& arguments) {
    const Outcome outcome = run_strand(arguments);
    check_refused(outcome, 2);
    return outcome.err;
  };
  CHECK(error({"generate", "runs/x", "--promt", "hi"}) ==
        "strand: error: strand generate: unknown option '--promt' (did you mean '--prompt'?) (see strand generate "
        "--help)\n");
  CHECK_THAT(error({"generate", "x", "--seeed=3"}), Contains("unknown option '--seeed' (did you mean '--seed'?)"));
  CHECK_THAT(error({"generate", "x", "--temp", "0.3"}), Contains("(did you mean '--template' or '--temperature'?)"));
  CHECK_THAT(error({"train", "--reusme"}), Contains("unknown option '--reusme' (did you mean '--resume'?)"));
  CHECK_THAT(error({"train", "-c", "a.yaml"}), Contains("strand train: unknown option '-c' (see strand train --help)"));
  CHECK_THAT(error({"--verison"}), Contains("strand: unknown option '--verison' (did you mean '--version'?)"));
  CHECK_THAT(error({"plan", "a.yaml", "--xyzzy"}), Contains("unknown option '--xyzzy' (see strand plan --help)"));
}

TEST_CASE("keys of the configuration that are given without --set are answered with it") {
  CHECK_THAT(run_strand({"config", quickstart, "moe.top_k=3"}).err,
             Contains("unexpected 'moe.top_k=3' (a key of the configuration is set with --set moe.top_k=3)"));
  CHECK_THAT(run_strand({"config", quickstart, "--moe.top_k", "3"}).err, Contains("is set with --set moe.top_k=VALUE"));
  CHECK_THAT(run_strand({"eval", "x", "moe.top_k=3"}).err,
             Contains("unexpected 'moe.top_k=3' (see strand eval --help)"));
}

TEST_CASE("what is missing is said with an example") {
  CHECK_THAT(run_strand({"train"}).err,
             Contains("strand train: CONFIG is required, as in: strand train configs/quickstart.yaml"));
  CHECK_THAT(run_strand({}).err, Contains("a command is missing; there are train-tokenizer, tokenize, config"));
}

TEST_CASE("words of options and of the table of devices, and paths, are answered with the nearest") {
  CHECK_THAT(run_strand({"export", "x", "--format", "gguff", "--out", "y"}).err, Contains("(did you mean 'gguf'?)"));
  CHECK_THAT(run_strand({"train", quickstart, "--resume", "nver"}).err, Contains("(did you mean 'never'?)"));
  CHECK_THAT(run_strand({"plan", quickstart, "--device", "h1000", "--set", "model.vocab_size=1000"}).err,
             Contains("(did you mean 'h100'?)"));
  CHECK_THAT(run_strand({"config", STRAND_SOURCE_DIR "/configs/quikstart.yaml"}).err,
             Contains("no such file (did you mean '" + quickstart + "'?)"));
}

TEST_CASE("a directory in place of a configuration is answered with what to type") {
  const test::TemporaryDirectory directory;
  const fs::path root = directory.path();
  const auto error = [&](const std::string& name, const std::string& file) {
    fs::create_directories((root / name / file).parent_path());
    std::ofstream(root / name / file) << "{}";
    const Outcome outcome = run_strand({"train", name}, root.string());
    check_refused(outcome, 1);
    return outcome.err;
  };
  CHECK(error("run", "config.yaml") ==
        "strand: error: run is the directory of a run, whose configuration is run/config.yaml: strand train "
        "run/config.yaml continues the run from its newest checkpoint\n");
  CHECK_THAT(
      error("step_00000004", "manifest.json"),
      Contains("is a checkpoint: to train on from its weights, write: strand train CONFIG --resume step_00000004 "
               "--weights-only"));
  CHECK_THAT(error("imported", "checkpoints/step_00000000/manifest.json"),
             Contains("the directory of a run that was imported") && Contains("--resume imported --weights-only"));
  CHECK_THAT(error("hf", "config.json"), Contains("strand import hf --out runs/NAME"));
  CHECK_THAT(error("other", "x"), Contains("other is a directory, not a YAML file"));
}

TEST_CASE("- is standard input where help says so, and is refused everywhere else") {
  const Outcome piped = run_program({"/bin/sh", "-c", strand_program() + " config - <" + quickstart});
  CHECK(piped.status == 0);
  CHECK(piped.out == run_strand({"config", quickstart}).out);
  const std::vector<std::vector<std::string>> refused = {{"inspect", "-"},
                                                         {"import", "-", "--out", "x"},
                                                         {"export", "x", "--out", "-"},
                                                         {"eval", "x", "--data", "-"},
                                                         {"report", "x", "--out", "-"},
                                                         {"tokenize", "-", "--tokenizer", "x", "--out", "y"},
                                                         {"train-tokenizer", "-", "--vocab-size", "300", "--out", "y"}};
  for (const auto& words : refused) {
    const Outcome outcome = run_strand(words);
    INFO(words[0] << ": " << outcome.err);
    check_refused(outcome, 2);
    CHECK_THAT(outcome.err, Contains("'-' is neither standard input nor standard output here"));
  }
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
