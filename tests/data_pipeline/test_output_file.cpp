// A file of a group that appears together: nothing of it is to be seen before, and nothing is left when the process
// ends.
#include <sys/stat.h>

#include <vector>

#include "data/output_file.h"
#include "data/token_file.h"
#include "data/tokenize.h"
#include "data/tokenizer_training.h"
#include "files.h"
#include "small_corpus.h"
#include "tests/signalled_child.h"

using namespace strand;
using namespace strand_test;

namespace {
using Kind = OutputFile::Kind;
constexpr Kind kinds[] = {Kind::without_name_if_possible, Kind::with_temporary_name};
}  // namespace

TEST_CASE("bytes appear under the final name when they are published, with the permissions of a new file") {
  for (const Kind kind : kinds) {
    const TemporaryDirectory dir;
    write_file(dir / "x", "old");
    {
      OutputFile file(dir / "x", kind);
      file.write("new bytes");
      file.write_at(0, "N", 1);
      file.seal();
      CHECK(read_file(dir / "x") == "old");
      file.publish();
      CHECK(read_file(dir / "x") == "New bytes");
    }
    CHECK(read_file(dir / "x") == "New bytes");
    CHECK(dir.entries() == 1);
    struct stat published = {}, created = {};
    write_file(dir / "y", "");
    REQUIRE((stat((dir / "x").c_str(), &published) == 0 && stat((dir / "y").c_str(), &created) == 0));
    CHECK(published.st_mode == created.st_mode);
  }
}

TEST_CASE("a file that is given up leaves nothing") {
  for (const Kind kind : kinds) {
    const TemporaryDirectory dir;
    {
      OutputFile file(dir / "x", kind);
      file.write("bytes");
      file.seal();
    }
    CHECK(dir.entries() == 0);
  }
}

TEST_CASE("a signal leaves nothing, and what SIGKILL leaves the next writer removes") {
  for (const Kind kind : kinds) {
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGABRT, SIGKILL}) {
      const TemporaryDirectory dir;
      CHECK(signal_that_ends([&] {
              OutputFile file(dir / "x", kind);
              file.write(std::string(3 << 20, 'x'));
              file.seal();
              raise(signal);
            }) == signal);
      CHECK(dir.entries() == (signal == SIGKILL && kind == Kind::with_temporary_name ? 1 : 0));
      OutputFile next(dir / "x");
      next.write("bytes");
      next.seal();
      next.publish();
      CHECK(dir.entries() == 1);
      CHECK(read_file(dir / "x") == "bytes");
    }
  }
}

TEST_CASE("tokenizing and tokenizer training leave nothing when a signal ends them") {
  const TemporaryDirectory dir;
  write_file(dir / "text/a.txt", small_document(1, 2000));
  write_file(dir / "text/b.txt", small_document(2, 20));
  TokenizerTraining training;
  training.inputs = {dir / "text"};
  training.output = dir / "t.model";
  training.vocab_size = 350;
  const size_t before = dir.entries();
  CHECK(signal_that_ends([&] { train_tokenizer(training, [](uint64_t) { raise(SIGINT); }); }) == SIGINT);
  CHECK(dir.entries() == before);
  train_tokenizer(training);
  const std::unique_ptr<const Tokenizer> owner_of_tokenizer = Tokenizer::load(training.output);
  const Tokenizer& tokenizer = *owner_of_tokenizer;
  TokenizeOptions options;
  options.inputs = training.inputs;
  options.output = dir / "out/train";
  options.val_output = dir / "out/val";
  options.val_fraction = 0.5;
  for (const int signal : {SIGTERM, SIGKILL}) {
    CHECK(signal_that_ends([&] { tokenize(options, tokenizer, [&](const TokenizeSummary&) { raise(signal); }); }) ==
          signal);
    CHECK(std::filesystem::is_directory(dir / "out"));
    if (signal == SIGTERM) CHECK(std::filesystem::is_empty(dir / "out"));
  }
}

TEST_CASE("an output that names a directory is refused before any work") {
  const TemporaryDirectory dir;
  write_file(dir / "a.txt", small_document(1, 500));
  TokenizerTraining training;
  training.inputs = {dir / "a.txt"};
  training.vocab_size = 300;
  for (const std::string name : {"d/", ""}) {
    training.output = name.empty() ? "" : dir / name;
    check_error([&] { train_tokenizer(training); }, {"name of a file"});
  }
  std::filesystem::create_directories(dir / "d");
  training.output = dir / "d";
  check_error([&] { train_tokenizer(training); }, {"/d", "directory"});
  training.output = dir / "t.model";
  train_tokenizer(training);
  const std::unique_ptr<const Tokenizer> owner_of_tokenizer = Tokenizer::load(training.output);
  const Tokenizer& tokenizer = *owner_of_tokenizer;
  TokenizeOptions options;
  options.inputs = training.inputs;
  for (const std::string name : {"d/", "new/", "d/.", "d/.."}) {
    options.output = dir / name;
    check_error([&] { tokenize(options, tokenizer); }, {name, "is a directory", "prefix"});
  }
  CHECK(dir.entries() == 3);
  options.output = dir / "pair.bin";  // either of the two files names the pair
  tokenize(options, tokenizer);
  CHECK(TokenFile(dir / "pair.bin").documents() == 1);
  CHECK(std::filesystem::exists(dir / "pair.idx"));
  CHECK(std::filesystem::exists(dir / "pair.tokenized"));
  CHECK(dir.entries() == 6);
}
