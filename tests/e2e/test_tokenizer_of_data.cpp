// Every command that reads token files for a model refuses those of another tokenizer, and says so where it cannot
// know.
#include <filesystem>
#include <fstream>

#include "tests/catch.h"
#include "workspace.h"

using namespace strand;
using Catch::Contains;

namespace {
namespace fs = std::filesystem;

/// A tokenizer of the same size, other.model, and the text as its ids, `other`.
void make_other(const Workspace& space) {
  fs::create_directory(space.root() / "other-text");
  std::string text = bytes_of(space.root() / "text" / "tales.jsonl");
  for (char& c : text)
    if (c >= 'a' && c <= 'z') c = static_cast<char>('a' + (c - 'a' + 13) % 26);
  std::ofstream(space.root() / "other-text" / "tales.txt") << text;
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"train-tokenizer", "other-text", "--vocab-size", std::to_string(Workspace::vocab_size),
                                 "--out", "other.model"},
        {"tokenize", "text", "--tokenizer", "other.model", "--out", "other"}}) {
    const Outcome outcome = space.strand(command);
    INFO(outcome.err);
    REQUIRE(outcome.status == 0);
  }
}

void check_refused(const Outcome& outcome) {
  INFO(outcome.err);
  CHECK(outcome.status == 1);
  CHECK_THAT(outcome.err,
             Contains("other.bin was made with the tokenizer other.model (SentencePiece model, 320 pieces"));
  CHECK_THAT(outcome.err, Contains("tokenizer.model (SentencePiece model, 320 pieces") && Contains("other.tokenized"));
}

std::string errors_of(const Workspace& space, const std::vector<std::string>& arguments) {
  const Outcome outcome = space.strand(arguments);
  INFO(outcome.err);
  CHECK(outcome.status == 0);
  return outcome.err;
}

int count_of(const std::string& text, const std::string& word) {
  int count = 0;
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++count;
  return count;
}
}  // namespace

TEST_CASE("token files of another tokenizer are refused by train, eval and analyse, and shown by inspect") {
  const Workspace space;
  make_other(space);
  const std::vector<std::string> few = {"--set", "train.steps=5"};
  check_refused(space.strand(space.train("never", {"--set", "data.train=other", "--set", "train.steps=5"})));
  check_refused(space.strand(space.train("never", {"--set", "data.val=other", "--set", "train.steps=5"})));
  CHECK_FALSE(fs::exists(space.run("never")));
  space.trained("run", few);
  check_refused(space.strand({"eval", "runs/run", "--data", "other"}));
  check_refused(space.strand({"analyse", "runs/run", "--data", "a=train", "--data", "b=other"}));
  // The tokenizer of a run that goes on without naming one is that of its checkpoints.
  check_refused(
      space.strand(space.train("run", {"--set", "data.tokenizer=''", "--set", "model.vocab_size=320", "--set",
                                       "data.train=other", "--set", "data.val=other", "--set", "train.steps=6"})));
  CHECK_THAT(space.strand({"inspect", "other", "--tokenizer", "tokenizer.model"}).out, Contains("WRONG TOKENIZER"));
}

TEST_CASE("token files that name no tokenizer are read, and one line says so") {
  const Workspace space;
  const std::vector<std::string> few = {"--set", "train.steps=5"};
  CHECK_THAT(errors_of(space, space.train("named", few)), !Contains("not name the tokenizer"));
  CHECK_THAT(errors_of(space, {"eval", "runs/named", "--data", "val"}), !Contains("not name the tokenizer"));
  for (const char* file : {"train.tokenized", "val.tokenized"}) REQUIRE(fs::remove(space.root() / file));
  const std::string said = errors_of(space, space.train("unnamed", few));
  CHECK(count_of(said, "not name the tokenizer") == 1);
  CHECK_THAT(said, Contains("train.bin and 1 more do not name the tokenizer"));
  CHECK(count_of(errors_of(space, {"eval", "runs/named", "--data", "val"}), "val.bin does not name the tokenizer") ==
        1);
  const std::vector<std::string> two_models = {"analyse", "runs/named", "runs/unnamed", "--data", "a=val"};
  CHECK(count_of(errors_of(space, two_models), "val.bin does not name the tokenizer") == 1);
  CHECK(bytes_of(space.checkpoint("named", 5) / "model.safetensors") ==
        bytes_of(space.checkpoint("unnamed", 5) / "model.safetensors"));
}
