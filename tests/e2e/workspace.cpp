#include "workspace.h"

#include <fmt/core.h>
#include <stdlib.h>

#include <array>
#include <fstream>
#include <iterator>
#include <random>
#include <sstream>

#include "core/error.h"

namespace strand {

namespace fs = std::filesystem;

namespace {
/// Sentences of four parts: enough order for a tiny model to learn in twenty steps, enough variety for a tokenizer.
std::string sentences(std::mt19937& random, int count) {
  static const std::array<const char*, 6> who = {"The old captain", "A small bird",          "My neighbour",
                                                 "The river",       "Every morning someone", "Nobody in the village"};
  static const std::array<const char*, 6> does = {"carried", "remembered", "watched", "followed", "lost", "described"};
  static const std::array<const char*, 6> what = {"a broken lantern",   "the long road",  "his brother's letter",
                                                  "seven white stones", "the first snow", "an empty boat"};
  static const std::array<const char*, 6> where = {"before the rain", "under the bridge", "across the field",
                                                   "without a word",  "in the market",    "until the evening"};
  const auto pick = [&random](const auto& words) { return words[random() % words.size()]; };
  std::string text;
  for (int i = 0; i < count; ++i) text += fmt::format("{} {} {} {}. ", pick(who), pick(does), pick(what), pick(where));
  return text;
}

void write_text(const fs::path& file) {
  std::mt19937 random(1);  // the same numbers on every machine, by the standard
  std::ofstream out(file);
  for (int document = 0; document < 200; ++document)
    out << nlohmann::json{{"text", sentences(random, 5 + static_cast<int>(random() % 20))}}.dump() << '\n';
}

constexpr const char* tiny_config = R"(run:
  name: tiny
  threads: 2
model:
  hidden_size: 40
  num_layers: 2
  num_heads: 4
  num_kv_heads: 2
  head_dim: 12
moe:
  num_experts: 4
  top_k: 2
  expert_ffn: 36
losses:
  lb_weight: 1.0e-2
  z_weight: 1.0e-3
  sp_weight: 2.0e-3
  cp_weight: 1.0e-3
data:
  train: train
  val: val
  tokenizer: tokenizer.model
  sequence_length: 32
optimizer:
  lr: 1.0e-2
  min_lr: 1.0e-3
schedule:
  kind: cosine
  warmup_steps: 3
train:
  steps: 20
  global_batch_size: 8
  micro_batch_size: 4
  eval_every: 5
  eval_batches: 0
  checkpoint_every: 10
  log_every: 1
)";
}  // namespace

Workspace::Workspace() {
  std::string name = (fs::temp_directory_path() / "strand_e2e_XXXXXX").string();
  if (!mkdtemp(name.data())) fail_errno("create", name);
  root_ = name;
  fs::create_directory(root_ / "text");
  write_text(root_ / "text" / "tales.jsonl");
  std::ofstream(root_ / "tiny.yaml") << tiny_config;
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"train-tokenizer", "text", "--vocab-size", std::to_string(vocab_size), "--out",
                                 "tokenizer.model"},
        {"tokenize", "text", "--tokenizer", "tokenizer.model", "--out", "train", "--val-out", "val", "--val-fraction",
         "0.1"}}) {
    const Outcome outcome = strand(command);
    require(outcome.status == 0, "strand {}: {}", command[0], outcome.err);
  }
}

Workspace::~Workspace() {
  std::error_code ignored;
  fs::remove_all(root_, ignored);
}

Outcome Workspace::strand(const std::vector<std::string>& arguments) const {
  return run_strand(arguments, root_);
}

std::vector<std::string> Workspace::train(const std::string& name, const std::vector<std::string>& more) const {
  std::vector<std::string> arguments = {"train", "tiny.yaml", "--set", "run.name=" + name};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

void Workspace::trained(const std::string& name, const std::vector<std::string>& more) const {
  const Outcome outcome = strand(train(name, more));
  require(outcome.status == 0, "training of {} ended with {}: {}", name, outcome.status, outcome.err);
}

fs::path Workspace::checkpoint(const std::string& name, int64_t step) const {
  return run(name) / "checkpoints" / fmt::format("step_{:08}", step);
}

std::vector<nlohmann::json> Workspace::log(const std::string& name) const {
  std::vector<nlohmann::json> rows;
  std::istringstream lines(bytes_of(run(name) / "log.jsonl"));
  for (std::string line; std::getline(lines, line) && !lines.eof();) rows.push_back(nlohmann::json::parse(line));
  return rows;
}

const Workspace& workspace() {
  static const Workspace shared;
  return shared;
}

std::string bytes_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace strand
