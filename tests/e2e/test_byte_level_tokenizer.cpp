// A byte-level BPE tokenizer, from its training to exports and back: every command that takes a SentencePiece model
// takes a tokenizer.json.
#include <fstream>

#include "tests/catch.h"
#include "workspace.h"

using namespace strand;
using Catch::Contains;
using nlohmann::json;

namespace {
Outcome succeeded(const std::vector<std::string>& arguments) {
  const Outcome outcome = workspace().strand(arguments);
  INFO(outcome.err);
  CHECK(outcome.status == 0);
  return outcome;
}

std::string generated(const std::string& from) {
  return succeeded({"generate", from, "--prompt", "The river caf\u00e9", "--max-tokens", "20", "--ignore-eos",
                    "--temperature", "0", "--device", "cpu", "--precision", "fp32"})
      .out;
}
}  // namespace

TEST_CASE("a byte-level tokenizer is trained, makes token files, goes with its model, and leaves and returns") {
  const std::filesystem::path root = workspace().root();
  const Outcome made = succeeded(
      {"train-tokenizer", "text", "--type", "bpe-bytes", "--vocab-size", "320", "--out", "bytes/tokenizer.json"});
  CHECK_THAT(made.out, Contains("320 pieces"));
  CHECK_THAT(succeeded({"inspect", "bytes/tokenizer.json"}).out,
             Contains("byte-level BPE tokenizer") && Contains("256 bytes, 2 control") && Contains("bos 0, eos 1"));
  succeeded({"tokenize", "text", "--tokenizer", "bytes/tokenizer.json", "--out", "bytes/train"});
  CHECK_THAT(succeeded({"inspect", "bytes/train", "--tokenizer", "bytes/tokenizer.json"}).out, Contains("begins: "));

  workspace().trained("bytes", {"--set", "data.train=bytes/train", "--set", "data.val=bytes/train", "--set",
                                "data.tokenizer=bytes/tokenizer.json", "--set", "train.steps=5"});
  const std::filesystem::path checkpoint = workspace().checkpoint("bytes", 5);
  for (const char* file : {"tokenizer.json", "tokenizer_config.json"})
    CHECK(bytes_of(checkpoint / file) == bytes_of(root / "bytes" / file));
  CHECK_FALSE(std::filesystem::exists(checkpoint / "tokenizer.model"));
  CHECK_THAT(succeeded({"inspect", checkpoint.string()}).out, Contains("tokenizer.json"));
  workspace().trained("bytes", {"--set", "data.train=bytes/train", "--set", "data.val=bytes/train", "--set",
                                "data.tokenizer=bytes/tokenizer.json", "--set", "train.steps=6", "--resume", "auto"});

  const std::string text = generated("runs/bytes");
  CHECK_THAT(text, Catch::StartsWith("The river caf\u00e9"));
  std::ofstream(root / "bytes/requests.jsonl") << R"({"context": "The river", "continuation": " carried"})"
                                               << "\n";
  const json score = json::parse(succeeded({"score", "runs/bytes", "bytes/requests.jsonl"}).out);
  CHECK(score["log_likelihood"] < 0);

  succeeded({"export", "runs/bytes", "--out", "bytes/hf"});
  for (const char* file : {"tokenizer.json", "tokenizer_config.json"})
    CHECK(bytes_of(root / "bytes/hf" / file) == bytes_of(root / "bytes" / file));
  CHECK(json::parse(bytes_of(root / "bytes/hf/config.json"))["bos_token_id"] == 0);
  succeeded({"import", "bytes/hf", "--out", "runs/bytes-returned"});
  CHECK(generated("runs/bytes-returned") == text);
  const Outcome gguf = succeeded({"export", "runs/bytes", "--format", "gguf", "--out", "bytes/model.gguf"});
  CHECK(gguf.err.find("other ids") == std::string::npos);
  const std::string bytes = bytes_of(root / "bytes/model.gguf");
  for (const char* word : {"tokenizer.ggml.pre", "qwen2", "tokenizer.ggml.merges", "<|end_of_text|>"})
    CHECK(bytes.find(word) != std::string::npos);
}

TEST_CASE("a model keeps its tokenizer: another one is refused when training goes on") {
  workspace().trained("kept", {"--set", "train.steps=4"});
  succeeded({"train-tokenizer", "text", "--type", "bpe-bytes", "--vocab-size", "320", "--out", "kept/tokenizer.json"});
  succeeded({"tokenize", "text", "--tokenizer", "kept/tokenizer.json", "--out", "kept/ids"});
  const Outcome outcome = workspace().strand(workspace().train(
      "kept", {"--set", "train.steps=5", "--resume", "auto", "--set", "data.tokenizer=kept/tokenizer.json", "--set",
               "data.train=kept/ids", "--set", "data.val=kept/ids"}));
  CHECK(outcome.status == 1);
  CHECK_THAT(outcome.err, Contains("kept/tokenizer.json") && Contains("is not the tokenizer"));
}

TEST_CASE("a tokenizer.json without EOS says where the EOS is looked for") {
  const std::filesystem::path folder = workspace().root() / "no-eos";
  succeeded(
      {"train-tokenizer", "text", "--type", "bpe-bytes", "--vocab-size", "300", "--out", "no-eos/tokenizer.json"});
  std::filesystem::remove(folder / "tokenizer_config.json");
  const std::vector<std::string> command = {"tokenize", "text",    "--tokenizer", "no-eos/tokenizer.json",
                                            "--out",    "no-eos/a"};
  const Outcome outcome = workspace().strand(command);
  CHECK(outcome.status == 1);
  CHECK_THAT(outcome.err, Contains("no EOS") && Contains("--no-eos") && Contains("tokenizer_config.json"));
  std::vector<std::string> without = command;
  without.push_back("--no-eos");
  succeeded(without);
}
