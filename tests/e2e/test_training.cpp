// A run from text to generated words, and what may happen to it on the way: a signal, a resume, numbers that are none.
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <thread>

#include "tests/catch.h"
#include "workspace.h"

using namespace strand;
using Catch::Contains;
using Catch::StartsWith;
using nlohmann::json;

namespace {
/// A row of the log without what depends on the clock.
json timeless(json row) {
  for (const char* key : {"tokens_per_second", "mfu", "step_seconds", "peak_bytes"}) row.erase(key);
  return row;
}

/// Rows of two runs from step `first` on are the same to the last bit (log.jsonl keeps every bit).
void check_same_rows(const std::string& one, const std::string& other, int64_t first) {
  const std::vector<json> a = workspace().log(one), b = workspace().log(other);
  const auto from = [first](const std::vector<json>& rows) {
    std::vector<json> kept;
    for (const json& row : rows)
      if (row["step"] >= first) kept.push_back(timeless(row));
    return kept;
  };
  REQUIRE_FALSE(from(a).empty());
  CHECK(from(a) == from(b));
}

void check_same_weights(const std::string& one, const std::string& other, int64_t step) {
  for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
    const std::string a = bytes_of(workspace().checkpoint(one, step) / file);
    CHECK(a.size() > 1000);
    CHECK(a == bytes_of(workspace().checkpoint(other, step) / file));
  }
}

/// The twenty steps of tiny.yaml, uninterrupted.
const std::string& whole_run() {
  static const std::string name = [] {
    workspace().trained("whole");
    return "whole";
  }();
  return name;
}

/// Waits until a run has logged `steps` steps, then sends it a signal.
void signal_after(pid_t process, const std::string& name, size_t steps, int signal) {
  while (kill(process, 0) == 0) {
    // A row more: validation before the first step.
    if (std::filesystem::exists(workspace().run(name) / "log.jsonl") && workspace().log(name).size() > steps) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  kill(process, signal);
}
}  // namespace

TEST_CASE("training on text lowers the validation loss and logs every step") {
  const std::vector<json> rows = workspace().log(whole_run());
  REQUIRE(rows.size() == 21);
  for (size_t i = 0; i < rows.size(); ++i) {
    CHECK(rows[i]["step"] == i);
    CHECK(rows[i].contains("val_loss") == (i % 5 == 0));  // of validations, and of no step after them
  }
  for (const char* key :
       {"loss", "ce", "lb", "z", "sp", "cp", "o", "v", "entropy", "lr", "grad_norm", "tokens", "tokens_per_second",
        "mfu", "expert_load", "update_ratio", "step_seconds", "peak_bytes", "val_bits_per_byte"})
    CHECK(rows[20].contains(key));
  for (const char* part : {"forward", "head", "backward", "update", "exchange", "data"})
    CHECK(rows[20]["step_seconds"].contains(part));
  CHECK(rows[20]["peak_bytes"] > 1'000'000);
  CHECK(rows[20]["tokens"] == 20 * 8 * 32);
  CHECK(rows[20]["lr"] == Approx(1e-3));  // the schedule ends at min_lr
  REQUIRE(rows[20]["expert_load"].size() == 2);
  for (const json& layer : rows[20]["expert_load"]) {
    REQUIRE(layer.size() == 4);
    double sum = 0;
    for (double share : layer) sum += share;
    CHECK(sum == Approx(1.0));
  }
  // Untrained: every piece is about equally likely. Trained: less than a quarter of the perplexity.
  const double before = rows[0]["val_loss"], after = rows[20]["val_loss"];
  CHECK(before == Approx(std::log(Workspace::vocab_size)).margin(0.1));
  CHECK(after < before - std::log(4.0));
  CHECK(rows[20]["val_perplexity"] == Approx(std::exp(after)));
}

TEST_CASE("a logged loss is the weighted sum of its terms") {
  for (const json& row : workspace().log(whole_run())) {
    if (row["step"] == 0) continue;
    const auto term = [&row](const char* key) { return row[key].get<double>(); };
    const double sum = term("ce") + 1e-2 * term("lb") + 1e-3 * term("z") + 2e-3 * term("sp") + 1e-3 * term("cp");
    CHECK(term("loss") == Approx(sum).epsilon(1e-9));
  }
}

TEST_CASE("eval measures what training logged, from the checkpoint alone") {
  const json last = workspace().log(whole_run()).back();
  const Outcome outcome = workspace().strand({"eval", "runs/whole", "--data", "val", "--batch-size", "4", "--json"});
  INFO(outcome.err);
  REQUIRE(outcome.status == 0);
  const json result = json::parse(outcome.out);
  // The same windows and the same arithmetic; only the order of a sum over batches may differ.
  CHECK(result["ce"].get<double>() == Approx(last["val_loss"].get<double>()).epsilon(1e-6));

  const std::string of_step = "runs/whole@" + std::to_string(last["step"].get<int64_t>());
  CHECK(workspace().strand({"eval", of_step, "--data", "val", "--batch-size", "4", "--json"}).out == outcome.out);
  const Outcome absent = workspace().strand({"eval", "runs/whole@4711", "--data", "val"});
  CHECK(absent.status == 1);
  CHECK_THAT(absent.err,
             Contains("there is no checkpoint step_00004711 in runs/whole or in its checkpoints folder, but "
                      "step_"));
  CHECK(result["perplexity"].get<double>() == Approx(last["val_perplexity"].get<double>()).epsilon(1e-5));
  CHECK(result["bits_per_byte"].get<double>() == Approx(last["val_bits_per_byte"].get<double>()).epsilon(1e-6));
}

TEST_CASE("generate continues a prompt, and repeats itself for the same seed") {
  whole_run();
  const auto words = [](const std::string& seed) {
    const Outcome outcome =
        workspace().strand({"generate", "runs/whole", "--prompt", "The river", "--max-tokens", "40", "--seed", seed});
    INFO(outcome.err);
    CHECK(outcome.status == 0);
    return outcome.out;
  };
  CHECK_THAT(words("1"), StartsWith("The river"));
  CHECK(words("1").size() > std::string("The river\n").size());
  CHECK(words("1") == words("1"));
  CHECK(words("1") != words("2"));
}

TEST_CASE("generate takes several prompts, says what each became, and stops where the context ends") {
  whole_run();
  const auto run = [](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"generate", "runs/whole", "--temperature", "0", "--ignore-eos"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return workspace().strand(arguments);
  };
  std::ofstream(workspace().root() / "prompts.txt") << "The river\nof the world and all that is in it\r\n";

  const Outcome together = run({"--prompt", "A", "--prompt-file", "prompts.txt", "--max-tokens", "6"});
  INFO(together.err);
  CHECK(together.status == 0);
  CHECK_THAT(together.out, StartsWith("=== 1 of 3 ===\nA") && Contains("\n=== 2 of 3 ===\nThe river") &&
                               Contains("\n=== 3 of 3 ===\nof the world and all that is in it"));

  // Two at a time, the third takes the place of the first that ends: greedy ids as each alone.
  const std::vector<std::string> short_texts = {"--print-ids", "--max-tokens", "6", "--batch-size", "2"};
  const auto ids = [&](std::vector<std::string> prompts) {
    prompts.insert(prompts.end(), short_texts.begin(), short_texts.end());
    const Outcome outcome = run(prompts);
    CHECK(outcome.status == 0);
    return outcome.out;
  };
  const std::string all = ids({"--prompt", "A", "--prompt-file", "prompts.txt"});
  CHECK(std::count(all.begin(), all.end(), '\n') == 3);
  CHECK(std::count(all.begin(), all.end(), ' ') == 3 * 5);
  CHECK(all == ids({"--prompt", "A"}) + ids({"--prompt", "The river"}) +
                   ids({"--prompt", "of the world and all that is in it"}));

  // The same lines with a byte-order mark, and through a pipe.
  std::ofstream(workspace().root() / "marked.txt") << "\xEF\xBB\xBFThe river\r\nof the world and all that is in it";
  CHECK(ids({"--prompt-file", "marked.txt"}) == ids({"--prompt-file", "prompts.txt"}));
  const std::string command = "cat prompts.txt | " + strand_program() +
                              " generate runs/whole --temperature 0 --ignore-eos --print-ids --max-tokens 6"
                              " --batch-size 2 --prompt-file ";
  for (const std::string name : {"-", "/dev/stdin"}) {
    const Outcome piped = run_program({"/bin/sh", "-c", command + name}, workspace().root().string());
    INFO(piped.err);
    CHECK(piped.out == ids({"--prompt-file", "prompts.txt"}));
  }
  std::ofstream(workspace().root() / "latin1.txt") << "The river\ncaf\xE9";
  const Outcome latin1 = run({"--prompt-file", "latin1.txt"});
  CHECK(latin1.status == 1);
  CHECK_THAT(latin1.err, Contains("latin1.txt: not UTF-8 in line 2"));
  CHECK_THAT(run({"--prompt", "caf\xE9"}).err, Contains("--prompt number 1 is not UTF-8 at byte 3"));

  const Outcome full = run({"--prompt", "A", "--context", "8"});
  CHECK(full.status == 0);
  CHECK_THAT(full.err, Contains("its context of 8 positions is full; --context makes it longer"));
  const Outcome overfull = run({"--prompt", "A", "--context", "1"});
  CHECK(overfull.status == 1);
  CHECK_THAT(overfull.err, Contains("but the context has 1 positions"));
  CHECK(run({}).status == 2);
  CHECK(run({"--prompt", "A", "--prompt-file", "nowhere.txt"}).status == 1);
}

TEST_CASE("a run that is complete is not trained again") {
  whole_run();
  const std::string log = bytes_of(workspace().run("whole") / "log.jsonl");
  workspace().trained("whole", {"--resume", "auto"});
  CHECK(bytes_of(workspace().run("whole") / "log.jsonl") == log);
}

TEST_CASE("a run continued from a checkpoint in the middle ends with the same bits") {
  whole_run();
  const Outcome outcome =
      workspace().strand(workspace().train("from_ten", {"--resume", workspace().checkpoint("whole", 10)}));
  CHECK(outcome.status == 0);
  CHECK_THAT(outcome.out, Contains("done: 20 steps, the last 10 of them in ") && Contains(" of training\n"));
  check_same_rows("whole", "from_ten", 11);
  check_same_weights("whole", "from_ten", 20);
}

TEST_CASE("SIGTERM and SIGINT save and exit with 0, and the run continues to the same bits") {
  const int signal = GENERATE(SIGTERM, SIGINT);
  const std::string stopped = "stopped_by_" + std::to_string(signal),
                    straight = "straight_to_" + std::to_string(signal);
  // So many steps that it cannot end before the signal; the constant schedule does not ask how many there are.
  const std::vector<std::string> endless = {"--set", "schedule.kind=constant", "--set", "train.steps=1000000"};
  const Outcome outcome = run_strand(workspace().train(stopped, endless), workspace().root(),
                                     [&](pid_t process) { signal_after(process, stopped, 3, signal); });
  INFO(outcome.err);
  REQUIRE(outcome.status == 0);
  CHECK_THAT(outcome.out, Contains("stopped by signal " + std::to_string(signal)));
  const int64_t at = workspace().log(stopped).back()["step"];
  CHECK(std::filesystem::exists(workspace().checkpoint(stopped, at) / "manifest.json"));

  const std::vector<std::string> to_the_end = {"--set", "schedule.kind=constant", "--set",
                                               "train.steps=" + std::to_string(at + 7)};
  workspace().trained(stopped, to_the_end);
  workspace().trained(straight, to_the_end);
  check_same_rows(stopped, straight, 0);
  check_same_weights(stopped, straight, at + 7);
}

TEST_CASE("a loss that is no number stops the run, names step and tensor, and leaves the last checkpoint whole") {
  whole_run();
  const std::filesystem::path kept = workspace().checkpoint("diverges", 10);
  std::filesystem::create_directories(kept.parent_path());
  std::filesystem::copy(workspace().checkpoint("whole", 10), kept, std::filesystem::copy_options::recursive);

  // One update at such a rate makes weights whose products overflow in the step after it.
  const Outcome outcome = workspace().strand(workspace().train(
      "diverges", {"--set", "optimizer.lr=1e30", "--set", "optimizer.min_lr=1e30", "--set", "optimizer.clip_norm=0"}));
  CHECK(outcome.status == 1);
  CHECK_THAT(outcome.err, Contains("step 12") && Contains("first non-finite tensor: ") && !Contains("none found") &&
                              Contains("the checkpoint of step 10 is intact"));
  CHECK(workspace().strand({"inspect", kept}).status == 0);
  // At a rate that it can bear the run goes on from there as if nothing had happened.
  workspace().trained("diverges");
  check_same_rows("whole", "diverges", 11);
  check_same_weights("whole", "diverges", 20);
}

TEST_CASE("--resume never refuses a directory that holds a run, and touches nothing in it") {
  whole_run();
  const std::string log = bytes_of(workspace().run("whole") / "log.jsonl");
  const Outcome outcome = workspace().strand(workspace().train("whole", {"--resume", "never"}));
  CHECK(outcome.status == 1);
  CHECK_THAT(outcome.err, Contains("runs/whole already holds a run"));
  CHECK(bytes_of(workspace().run("whole") / "log.jsonl") == log);
}

TEST_CASE("a run that cannot begin leaves no directory behind") {
  const auto arguments = GENERATE(std::vector<std::string>{"--set", "data.train=nowhere"},
                                  std::vector<std::string>{"--set", "model.vocab_size=319"},
                                  std::vector<std::string>{"--set", "data.sequence_length=100000000"},
                                  std::vector<std::string>{"--resume", "nowhere"});
  const Outcome outcome = workspace().strand(workspace().train("never_begun", arguments));
  CHECK(outcome.status == 1);
  CHECK_THAT(outcome.err, StartsWith("strand: error: ") || Contains("\nstrand: error: "));
  CHECK_FALSE(std::filesystem::exists(workspace().run("never_begun")));
}

TEST_CASE("a checkpoint of another model is not continued") {
  whole_run();
  const Outcome outcome = workspace().strand(
      workspace().train("wider", {"--resume", workspace().checkpoint("whole", 20), "--set", "moe.expert_ffn=64"}));
  CHECK(outcome.status == 1);
  CHECK_THAT(outcome.err, Contains("moe.expert_ffn"));
}
