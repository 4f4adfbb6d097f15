// What a misspelt name was likely meant to be. Every expectation is what a person would answer.
#include <filesystem>

#include "core/nearest.h"
#include "tests/catch.h"
#include "tests/temporary_directory.h"

using namespace strand;
using Names = std::vector<std::string>;

namespace {
const Names keys = {"vocab_size",     "hidden_size",     "num_layers",        "num_heads",        "num_experts",
                    "shared_experts", "top_k",           "global_batch_size", "micro_batch_size", "lr",
                    "steps",          "sequence_length", "warmup_steps"};
const Names options = {"--prompt", "--prompt-file", "--temperature", "--top-k", "--top-p", "--seed", "--max-tokens"};
const Names commands = {"train-tokenizer", "tokenize", "config",   "plan",    "train",  "report", "eval",
                        "score",           "analyse",  "generate", "inspect", "export", "import", "verify"};
}  // namespace

TEST_CASE("Case and separators do not count") {
  CHECK(nearest_names("topk", keys) == Names{"top_k"});
  CHECK(nearest_names("top-k", keys) == Names{"top_k"});
  CHECK(nearest_names("Hidden_Size", keys) == Names{"hidden_size"});
  CHECK(nearest_names("--max_tokens", options) == Names{"--max-tokens"});
  CHECK(nearest_names("LR", keys) == Names{"lr"});
}

TEST_CASE("A slip: a letter too many, missing, wrong, or two that are swapped") {
  CHECK(nearest_names("trian", commands) == Names{"train"});
  CHECK(nearest_names("generrate", commands) == Names{"generate"});
  CHECK(nearest_names("tokenise", commands) == Names{"tokenize"});
  CHECK(nearest_names("analyze", commands) == Names{"analyse"});
  CHECK(nearest_names("--promt", options) == Names{"--prompt"});
  CHECK(nearest_names("cosin", {"constant", "cosine", "linear"}) == Names{"cosine"});
  CHECK(nearest_names("exprots", commands) == Names{"export"});  // two slips of seven letters
}

TEST_CASE("A part of a name, or more than the name") {
  CHECK(nearest_names("--temp", options) == Names{"--temperature"});
  CHECK(nearest_names("batch_size", keys) == Names{"global_batch_size", "micro_batch_size"});
  CHECK(nearest_names("seq_len", keys) == Names{"sequence_length"});
  CHECK(nearest_names("hidden", keys) == Names{"hidden_size"});
  CHECK(nearest_names("evaluate", commands) == Names{"eval"});
  CHECK(nearest_names("max_steps", keys) == Names{"steps"});
}

TEST_CASE("Names that are equally near are all named") {
  CHECK(nearest_names("experts", keys) == Names{"num_experts", "shared_experts"});
  CHECK(nearest_names("--top", options) == Names{"--top-k", "--top-p"});
  CHECK(did_you_mean("batch_size", keys) == " (did you mean 'global_batch_size' or 'micro_batch_size'?)");
  CHECK(alternatives({"a", "b", "c"}) == "'a', 'b' or 'c'");
}

TEST_CASE("Nothing is suggested when nothing is near") {
  for (const std::string word : {"xyzzy", "", "-", "q", "momentum", "dropout", "--help-me-please"})
    CHECK(did_you_mean(word, keys).empty());
  CHECK(did_you_mean("fp16", {"fp64", "fp32", "bf16"}).empty());  // half of it is wrong
  CHECK(did_you_mean("gpu", {"cpu", "reference", "cuda"}).empty());
  CHECK(did_you_mean("hf", {"f"}).empty());
  CHECK(did_you_mean("train", {}).empty());
  CHECK(did_you_mean("layer", {"layer1", "layer2", "layer3", "layer4", "layer5"}).empty());  // too many
}

TEST_CASE("A path is looked for among what is beside it") {
  const test::TemporaryDirectory directory;
  const std::filesystem::path root = directory.path();
  for (const char* name : {"quickstart", ".quickstat", "other"}) std::filesystem::create_directory(root / name);
  const std::string near = (root / "quickstart").string();
  CHECK(did_you_mean_path((root / "quikstart").string()) == " (did you mean '" + near + "'?)");
  CHECK(did_you_mean_path((root / "quikstart/").string()) == " (did you mean '" + near + "'?)");
  CHECK(did_you_mean_path((root / "absent/quickstart").string()).empty());
  CHECK(did_you_mean_path((root / "zzz").string()).empty());
  CHECK(did_you_mean_path(near).empty());
}
