// Options that no other test gives to the program. Each changes what its help says that it changes.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>

#include "tests/catch.h"
#include "workspace.h"

using namespace strand;
using Catch::Contains;
using nlohmann::json;

namespace {
Outcome succeeded(const std::vector<std::string>& arguments) {
  const Outcome outcome = workspace().strand(arguments);
  INFO(arguments[0] << ": " << outcome.err);
  CHECK(outcome.status == 0);
  return outcome;
}

/// The twenty steps of tiny.yaml.
void train_whole() {
  static const bool done = [] {
    workspace().trained("whole");
    return true;
  }();
  (void)done;
}

std::vector<int> generated(const std::vector<std::string>& more) {
  train_whole();
  std::vector<std::string> arguments = {"generate", "runs/whole",   "--prompt",  "The river", "--max-tokens",
                                        "40",       "--ignore-eos", "--context", "100",       "--print-ids"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  std::istringstream words(succeeded(arguments).out);
  std::vector<int> ids;
  for (int id = 0; words >> id;) ids.push_back(id);
  CHECK(ids.size() == 40);
  return ids;
}

/// The number that `inspect` prints after `what` for a token file.
int64_t counted(const std::string& prefix, const std::string& what) {
  const std::string text = succeeded({"inspect", prefix}).out;
  std::smatch match;
  REQUIRE(std::regex_search(text, match, std::regex(what + ": ([0-9]+)")));
  return std::stol(match[1]);
}

int64_t tokens_of(const std::string& output, const std::string& input, const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"tokenize", input, "--tokenizer", "tokenizer.model", "--out", output};
  arguments.insert(arguments.end(), more.begin(), more.end());
  succeeded(arguments);
  return counted(output, "tokens");
}

void write_lines(const std::string& name, const std::vector<std::string>& lines) {
  std::ofstream out(workspace().root() / name);
  for (const std::string& line : lines) out << line << '\n';
}
}  // namespace

TEST_CASE("eval with a run's batch size and number of batches measures what its validation measured") {
  workspace().trained("sampled", {"--set", "train.eval_batches=3"});
  const json last = workspace().log("sampled").back();
  const auto eval = [](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"eval", "runs/sampled", "--data", "val", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return json::parse(succeeded(arguments).out);
  };
  const json same = eval({"--batch-size", "8", "--batches", "3"});
  CHECK(same["tokens"] == 3 * 8 * 32);
  // The same windows and the same arithmetic; only the order of a sum over batches may differ.
  CHECK(same["ce"].get<double>() == Approx(last["val_loss"].get<double>()).epsilon(1e-6));
  const json all = eval({});
  CHECK(all["tokens"].get<int64_t>() > 2 * 3 * 8 * 32);
  CHECK(std::abs(all["ce"].get<double>() - last["val_loss"].get<double>()) > 1e-4);
}

TEST_CASE("top-k of 1, min-p of 1 and a tiny top-p are greedy; without them a draw is not") {
  const std::vector<int> greedy = generated({"--temperature", "0"});
  CHECK(generated({"--top-k", "1"}) == greedy);
  CHECK(generated({"--min-p", "1"}) == greedy);
  CHECK(generated({"--top-p", "0.000001"}) == greedy);
  CHECK(generated({}) != greedy);
  CHECK(generated({"--top-k", "0", "--min-p", "0"}) == generated({}));
}

TEST_CASE("a large repetition penalty lets no token come again; one below 1 lets one come for ever") {
  const auto distinct = [](const std::vector<int>& ids) { return std::set<int>(ids.begin(), ids.end()).size(); };
  // 40 tokens of a vocabulary of 320: enough others are left.
  CHECK(distinct(generated({"--temperature", "0", "--repetition-penalty", "1000"})) == 40);
  CHECK(distinct(generated({"--temperature", "0"})) < 40);
}

TEST_CASE("documents begin with BOS and end with EOS, unless they are told not to") {
  write_lines("three.jsonl", {R"({"text": "The river"})", R"({"text": "an empty boat"})", R"({"text": "lost"})"});
  const int64_t bare = tokens_of("bare", "three.jsonl", {"--no-bos", "--no-eos"});
  CHECK(tokens_of("without_bos", "three.jsonl", {"--no-bos"}) == bare + 3);
  CHECK(tokens_of("without_eos", "three.jsonl", {"--no-eos"}) == bare + 3);
  CHECK(tokens_of("with_both", "three.jsonl", {}) == bare + 6);
  CHECK(counted("with_both", "documents") == 3);
}

TEST_CASE("the text of a record stands under the key that was named") {
  write_lines("keys.jsonl", {R"({"text": "lost", "body": "The river carried an empty boat"})"});
  write_lines("body.jsonl", {R"({"text": "The river carried an empty boat"})"});
  const int64_t of_body = tokens_of("body", "body.jsonl", {});
  CHECK(tokens_of("keys_body", "keys.jsonl", {"--text-key", "body"}) == of_body);
  CHECK(tokens_of("keys_text", "keys.jsonl", {}) < of_body);
  const Outcome absent = workspace().strand(
      {"tokenize", "keys.jsonl", "--tokenizer", "tokenizer.model", "--out", "absent", "--text-key", "content"});
  CHECK(absent.status == 1);
  CHECK_THAT(absent.err, Contains("content") && Contains("keys.jsonl"));
}

TEST_CASE("a .txt becomes as many documents as --split-documents makes of it") {
  write_lines("play.txt", {"The river", "an empty boat", "", "lost", "<|end|>", "the long road"});
  const auto documents = [](const std::string& how) {
    tokens_of("play", "play.txt", {"--split-documents", how});
    return counted("play", "documents");
  };
  CHECK(documents("none") == 1);
  CHECK(documents("lines") == 5);
  CHECK(documents("blank-lines") == 2);
  CHECK(documents("<|end|>") == 2);
}

TEST_CASE("as many bad records are left out, with their names, as were allowed") {
  write_lines("bad.jsonl", {R"({"text": "lost"})", "{broken", R"({"text": "lost"})", R"({"text": 7})"});
  write_lines("good.jsonl", {R"({"text": "lost"})", R"({"text": "lost"})"});
  const auto tokenize = [](const std::string& allowed) {
    return workspace().strand(
        {"tokenize", "bad.jsonl", "--tokenizer", "tokenizer.model", "--out", "some", "--skip-bad-records", allowed});
  };
  for (const std::string few : {"0", "1"}) {
    const Outcome refused = tokenize(few);
    CHECK(refused.status == 1);
    CHECK_THAT(refused.err, Contains("bad.jsonl"));
  }
  const Outcome taken = tokenize("2");
  CHECK(taken.status == 0);
  CHECK_THAT(taken.err, Contains("bad.jsonl") && Contains("2") && Contains("4"));
  CHECK(counted("some", "tokens") == tokens_of("good", "good.jsonl", {}));
}

TEST_CASE("a line longer than --max-document is refused, and read when it is raised") {
  write_lines("long.jsonl", {"{\"text\": \"" + std::string(size_t{1} << 20, 'a') + "\"}"});
  const auto tokenize = [](const std::string& mebibytes) {
    return workspace().strand(
        {"tokenize", "long.jsonl", "--tokenizer", "tokenizer.model", "--out", "long", "--max-document", mebibytes});
  };
  const Outcome refused = tokenize("1");
  CHECK(refused.status == 1);
  CHECK_THAT(refused.err, Contains("long.jsonl") && Contains("--max-document"));
  CHECK(tokenize("2").status == 0);
}

TEST_CASE("a tokenizer is trained on about as many bytes as it may sample, drawn by the seed") {
  const auto train = [](const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"train-tokenizer", "text", "--vocab-size", "300", "--out", out};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return succeeded(arguments).out;
  };
  CHECK_THAT(train("all.model", {}), Contains("every line"));
  const std::string sampled = train("one.model", {"--sample-bytes", "50000", "--seed", "1"});
  CHECK_THAT(sampled, Contains("lines drawn from all of it, seed 1"));
  std::smatch bytes;
  REQUIRE(std::regex_search(sampled, bytes, std::regex("trained on ([0-9]+) of ([0-9]+) bytes")));
  CHECK(std::stol(bytes[1]) < 100000);
  CHECK(std::stol(bytes[1]) > 25000);
  CHECK(std::stol(bytes[2]) > 100000);
  train("again.model", {"--sample-bytes", "50000", "--seed", "1"});
  train("two.model", {"--sample-bytes", "50000", "--seed", "2"});
  const auto model = [](const char* name) { return bytes_of(workspace().root() / name); };
  CHECK(model("again.model") == model("one.model"));
  CHECK(model("two.model") != model("one.model"));
}

TEST_CASE("an import prepares for the sequence length that was asked for") {
  train_whole();
  succeeded({"export", "runs/whole", "--out", "whole-hf", "--format", "hf", "--dtype", "f32", "--shard-size", "1"});
  for (const std::string length : {"16", "24"}) {
    const std::string out = "runs/length" + length;
    succeeded({"import", "whole-hf", "--out", out, "--sequence-length", length});
    CHECK_THAT(bytes_of(workspace().checkpoint("length" + length, 0) / "config.yaml"),
               Contains("sequence_length: " + length + "\n"));
  }
}

TEST_CASE("an export is a directory or a file, and refuses options of the other") {
  train_whole();
  const auto exported = [](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"export", "runs/whole"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return workspace().strand(arguments);
  };
  const Outcome gguf = exported({"--format", "gguf", "--type", "q8_0", "--out", "whole.gguf"});
  CHECK(gguf.status == 0);
  CHECK(bytes_of(workspace().root() / "whole.gguf").starts_with("GGUF"));
  const Outcome directory = exported({"--type", "f16", "--out", "other-hf"});
  CHECK(directory.status == 2);
  CHECK_THAT(directory.err, Contains("--type f16 belongs to --format gguf"));
  const Outcome shards = exported({"--format", "gguf", "--shard-size", "1", "--out", "other.gguf"});
  CHECK(shards.status == 2);
  CHECK_THAT(shards.err, Contains("--shard-size belongs to --format hf"));
  const Outcome unknown = exported({"--format", "gguf", "--type", "q4_0", "--out", "other.gguf"});
  CHECK(unknown.status == 2);
  CHECK_THAT(unknown.err, Contains("--type: 'q4_0' is none of f32, bf16, f16, q8_0"));
}

TEST_CASE("a new run may begin from the weights alone of another") {
  train_whole();
  const auto train = [](const std::string& name, const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"--resume", workspace().checkpoint("whole", 20), "--set", "train.steps=21"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    workspace().trained(name, arguments);
    return workspace().log(name);
  };
  CHECK(train("goes_on", {}).front()["step"] == 21);
  const std::vector<json> rows = train("anew", {"--weights-only"});
  REQUIRE(rows.size() == 22);  // validation before the first step, and 21 steps
  CHECK(rows[0]["val_loss"].get<double>() ==
        Approx(workspace().log("whole").back()["val_loss"].get<double>()).epsilon(1e-6));
  CHECK(rows[1]["tokens"] == 8 * 32);
}

TEST_CASE("an export is of the class that is asked for, or of that from which the weights came") {
  const std::vector<std::string> model = {"--set", "model.head_dim=10", "--set", "moe.shared_experts=2",
                                          "--set", "train.steps=2",     "--set", "schedule.warmup_steps=1"};
  const auto class_of = [](const std::string& directory) {
    return json::parse(bytes_of(workspace().root() / directory / "config.json"))["architectures"][0];
  };
  workspace().trained("plain", model);
  succeeded({"export", "runs/plain", "--out", "plain-hf"});
  CHECK(class_of("plain-hf") == "Ernie4_5_MoeForCausalLM");
  succeeded({"export", "runs/plain", "--class", "DeepseekForCausalLM", "--out", "deepseek-hf"});
  CHECK(class_of("deepseek-hf") == "DeepseekForCausalLM");
  succeeded({"import", "deepseek-hf", "--out", "runs/imported_deepseek"});
  std::vector<std::string> more = model;
  more.insert(more.end(), {"--resume", "runs/imported_deepseek", "--weights-only"});
  workspace().trained("tuned", more);
  succeeded({"export", "runs/tuned", "--out", "tuned-hf"});
  CHECK(class_of("tuned-hf") == "DeepseekForCausalLM");

  const Outcome impossible =
      workspace().strand({"export", "runs/plain", "--class", "Glm4MoeForCausalLM", "--out", "x"});
  CHECK(impossible.status == 1);
  CHECK_THAT(impossible.err, Contains("Glm4MoeForCausalLM") && Contains("moe.score: sigmoid"));
  const Outcome gguf = workspace().strand(
      {"export", "runs/plain", "--class", "Glm4MoeForCausalLM", "--format", "gguf", "--out", "x.gguf"});
  CHECK(gguf.status == 2);
  CHECK_THAT(gguf.err, Contains("--class belongs to --format hf"));
}

TEST_CASE("data that changed under a run is accepted only by its option") {
  workspace().trained("moved", {"--set", "train.steps=4"});
  std::vector<std::string> more = {"--set", "train.steps=5", "--set", "data.train=val"};
  const Outcome refused = workspace().strand(workspace().train("moved", more));
  CHECK(refused.status == 1);
  CHECK_THAT(refused.err, Contains("--accept-data-change"));
  more.push_back("--accept-data-change");
  workspace().trained("moved", more);
  CHECK(workspace().log("moved").back()["step"] == 5);
}

TEST_CASE("a finished run says that nothing was trained, and that a change took no effect") {
  train_whole();
  const auto again = [](const std::vector<std::string>& more) {
    return succeeded(workspace().train("whole", more)).out;
  };
  CHECK_THAT(again({}),
             Contains("nothing was trained: runs/whole already has the 20 steps that train.steps asks for") &&
                 !Contains("changed configuration") && !Contains("done:"));
  CHECK_THAT(
      again({"--set", "optimizer.lr=0.5"}),
      Contains("nothing was trained") && Contains("the changed configuration takes effect only in further steps"));
}

TEST_CASE("of many entries that are not read, a hundred are named and the others are counted") {
  std::filesystem::create_directory(workspace().root() / "many");
  write_lines("many/one.txt", {"The river"});
  for (int i = 0; i < 102; ++i) write_lines("many/" + std::to_string(i) + ".dat", {"x"});
  const std::string said = succeeded({"tokenize", "many", "--tokenizer", "tokenizer.model", "--out", "of_many"}).err;
  const std::regex named("not read: many/[0-9]+\\.dat: no text file by its name");
  CHECK(std::distance(std::sregex_iterator(said.begin(), said.end(), named), {}) == 100);
  CHECK_THAT(said, Contains("not read: 2 entries more"));
}

TEST_CASE("each stated speed of a device changes its own part of the estimate") {
  const auto estimate = [](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"plan",
                                          "tiny.yaml",
                                          "--ranks",
                                          "4",
                                          "--expert-parallel",
                                          "2",
                                          "--json",
                                          "--device",
                                          "h100",
                                          "--set",
                                          "model.vocab_size=320",
                                          "--set",
                                          "train.micro_batch_size=2"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return json::parse(succeeded(arguments).out)["estimate"];
  };
  const auto compute = [&](const std::vector<std::string>& more) {
    return estimate(more)["compute_seconds"].get<double>();
  };
  const auto communicate = [&](const std::vector<std::string>& more) {
    return estimate(more)["communication_seconds"].get<double>();
  };
  // Of so slow a machine one limit is all there is: its time goes with one over the number.
  CHECK(compute({"--memory-bandwidth", "1"}) == Approx(2 * compute({"--memory-bandwidth", "2"})));
  CHECK(compute({"--flops", "1"}) == Approx(2 * compute({"--flops", "2"})).epsilon(1e-6));
  CHECK(compute({"--flops", "1", "--efficiency", "0.25"}) ==
        Approx(2 * compute({"--flops", "1", "--efficiency", "0.5"})).epsilon(1e-6));
  CHECK(communicate({"--link", "1", "--ranks-per-host", "4"}) ==
        Approx(2 * communicate({"--link", "2", "--ranks-per-host", "4"})).epsilon(1e-6));
  CHECK(communicate({"--network", "1", "--ranks-per-host", "1"}) ==
        Approx(2 * communicate({"--network", "2", "--ranks-per-host", "1"})).epsilon(1e-6));
  CHECK(communicate({"--message-seconds", "2000"}) ==
        Approx(2 * communicate({"--message-seconds", "1000"})).epsilon(1e-6));
  // On one host the network is not used, on four the links are not.
  CHECK(communicate({"--network", "1", "--ranks-per-host", "4"}) == communicate({"--ranks-per-host", "4"}));
  CHECK(communicate({"--link", "1", "--ranks-per-host", "1"}) == communicate({"--ranks-per-host", "1"}));
}

TEST_CASE("verify replays on the device that was named") {
  const std::string reference_case = STRAND_SOURCE_DIR "/tests/data/ce_only.safetensors";
  const auto verify = [&](const std::string& device, const std::string& precision) {
    return succeeded({"verify", "--device", device, "--precision", precision, reference_case}).out;
  };
  CHECK_THAT(verify("reference", "fp64"), Contains("double precision") && Contains("out.logits"));
  CHECK_THAT(verify("cpu", "fp32"), Contains("instructions of the kernels") && Contains("out.logits"));
}
