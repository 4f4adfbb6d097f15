// A vocabulary with more rows than the tokenizer has pieces, from training to export and back.
#include <fstream>
#include <sstream>

#include "tests/catch.h"
#include "workspace.h"

using namespace strand;
using Catch::Contains;
using nlohmann::json;

namespace {
constexpr int rows = 2048;  // most ids have no piece

Outcome succeeded(const std::vector<std::string>& arguments) {
  const Outcome outcome = workspace().strand(arguments);
  INFO(outcome.err);
  CHECK(outcome.status == 0);
  return outcome;
}

std::vector<int> generated_ids(const std::string& from) {
  std::istringstream words(succeeded({"generate", from, "--prompt", "The river", "--max-tokens", "60", "--context",
                                      "80", "--ignore-eos", "--print-ids", "--device", "cpu", "--precision", "fp32"})
                               .out);
  std::vector<int> ids;
  for (int id = 0; words >> id;) ids.push_back(id);
  return ids;
}

json header_of(const std::filesystem::path& file) {
  const std::string bytes = bytes_of(file);
  uint64_t length = 0;
  for (size_t i = 0; i < 8; ++i) length |= static_cast<uint64_t>(static_cast<unsigned char>(bytes.at(i))) << (8 * i);
  return json::parse(bytes.substr(8, length));
}
}  // namespace

TEST_CASE("a padded vocabulary trains, continues, is evaluated, generates pieces only, and leaves and returns whole") {
  const std::vector<std::string> padded = {"--set", "model.vocab_size=2048", "--set", "train.steps=5"};
  workspace().trained("padded", padded);
  workspace().trained("padded", {"--set", "model.vocab_size=2048", "--set", "train.steps=6", "--resume", "auto"});
  CHECK(workspace().log("padded").back()["step"] == 6);
  const json measured = json::parse(succeeded({"eval", "runs/padded", "--data", "val", "--json"}).out);
  CHECK(measured["perplexity"] > 1);

  // After six steps all 2048 ids are about as likely: 60 draws without a limit would hardly miss the 1728 others.
  const std::vector<int> ids = generated_ids("runs/padded");
  REQUIRE(ids.size() == 60);
  for (const int id : ids) CHECK(id < Workspace::vocab_size);

  succeeded({"export", "runs/padded", "--out", "padded-hf"});
  const std::filesystem::path exported = workspace().root() / "padded-hf";
  CHECK(json::parse(bytes_of(exported / "config.json"))["vocab_size"] == rows);
  CHECK(header_of(exported / "model.safetensors")["model.embed_tokens.weight"]["shape"] == json::array({rows, 40}));
  CHECK(json::parse(bytes_of(exported / "tokenizer.json"))["model"]["vocab"].size() == Workspace::vocab_size);
  CHECK_THAT(succeeded({"import", "padded-hf", "--out", "runs/returned"}).err, Contains("2048"));
  CHECK(generated_ids("runs/returned") == ids);
}

TEST_CASE("a vocabulary with fewer rows than the tokenizer has pieces is refused") {
  const Outcome outcome = workspace().strand(workspace().train("too_small", {"--set", "model.vocab_size=319"}));
  CHECK(outcome.status == 1);
  CHECK_THAT(outcome.err, Contains("319") && Contains("320 pieces"));
  CHECK_FALSE(std::filesystem::exists(workspace().run("too_small")));
}
