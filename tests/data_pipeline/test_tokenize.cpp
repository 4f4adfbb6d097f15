// The whole way from text files to token files.
#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "data/describe.h"
#include "data/token_file.h"
#include "data/tokenize.h"
#include "data/tokenizer_training.h"
#include "files.h"
#include "small_corpus.h"

using namespace strand;
using namespace strand_test;

namespace {

std::string jsonl(const std::vector<std::string>& texts) {
  std::string lines;
  for (const std::string& text : texts) {
    lines += "{\"text\":\"";
    for (const char c : text) lines += c == '\n' ? std::string("\\n") : std::string(1, c);
    lines += "\"}\n";
  }
  return lines;
}

// A corpus of 400 documents in three files, and a tokenizer trained on it.
struct Corpus {
  TemporaryDirectory dir;
  std::vector<std::string> texts;  // in the order in which they are read
  std::unique_ptr<const Tokenizer> owner_of_tokenizer;
  const Tokenizer& tokenizer;

  Corpus() : texts(make_texts()), owner_of_tokenizer(make_files()), tokenizer(*owner_of_tokenizer) {}

  static std::vector<std::string> make_texts() {
    std::vector<std::string> made;
    for (uint64_t i = 0; i < 400; ++i) made.push_back(small_document(i, 1 + static_cast<int>(i * 37 % 150)));
    return made;
  }

  std::unique_ptr<const Tokenizer> make_files() {
    write_file(dir / "text/a.jsonl", jsonl({texts.begin(), texts.begin() + 399}));
    write_file(dir / "text/b.txt", texts[399]);
    write_file(dir / "text/c.txt", "");
    TokenizerTraining training;
    training.inputs = {dir / "text"};
    training.output = dir / "t.model";
    training.vocab_size = 350;
    training.sample_bytes = 200000;
    train_tokenizer(training);
    return Tokenizer::load(training.output);
  }

  TokenizeOptions options(const std::string& output) const {
    TokenizeOptions o;
    o.inputs = {dir / "text"};
    o.output = dir / output;
    return o;
  }
};

std::vector<std::vector<int32_t>> documents(const std::string& prefix) {
  const TokenFile file(prefix);
  std::vector<std::vector<int32_t>> result;
  for (int64_t d = 0; d < file.documents(); ++d) {
    const int64_t begin = file.document_begin(d), count = file.document_begin(d + 1) - begin;
    std::vector<int32_t> ids(static_cast<size_t>(count));
    file.read(begin, count, 350, ids.data());
    result.push_back(std::move(ids));
  }
  return result;
}

}  // namespace

TEST_CASE("documents become BOS, ids, EOS, in order") {
  const Corpus corpus;
  int calls = 0;
  const TokenizeSummary summary =
      tokenize(corpus.options("out"), corpus.tokenizer, [&](const TokenizeSummary&) { ++calls; });
  CHECK(calls > 1);
  CHECK(summary.train.documents == 400);
  CHECK(summary.empty_documents == 1);
  size_t bytes = 0;
  int64_t tokens = 0;
  const auto found = documents(corpus.dir / "out");
  REQUIRE(found.size() == 400);
  for (size_t d = 0; d < 400; ++d) {
    std::vector<int32_t> expected = corpus.tokenizer.encode(corpus.texts[d]);
    expected.insert(expected.begin(), 1);
    expected.push_back(2);
    REQUIRE(found[d] == expected);
    REQUIRE(corpus.tokenizer.decode(found[d]) == corpus.texts[d]);
    bytes += corpus.texts[d].size();
    tokens += static_cast<int64_t>(expected.size());
  }
  CHECK(summary.train.bytes == bytes);
  CHECK(summary.train.tokens == tokens);
  CHECK_THAT(to_string(summary), Catch::Contains("400 documents") && Catch::Contains("1 empty"));
  CHECK_THAT(describe_token_file(corpus.dir / "out", TokenFormat::automatic, &corpus.tokenizer),
             Catch::Contains("begins: "));
}

TEST_CASE("the number of threads changes no byte") {
  const Corpus corpus;
  std::map<std::string, std::string> first;
  for (const int threads : {1, 3}) {
    TokenizeOptions options = corpus.options("train");
    options.val_output = corpus.dir / "val";
    options.val_fraction = 0.2;
    options.threads = threads;
    tokenize(options, corpus.tokenizer);
    for (const std::string name : {"train.bin", "train.idx", "train.tokenized", "val.bin", "val.idx", "val.tokenized"}) {
      const std::string bytes = read_file(corpus.dir / name);
      if (threads == 1) first[name] = bytes;
      CHECK((bytes == first[name]));
    }
  }
}

TEST_CASE("how much text is under way at a time changes no byte") {
  const Corpus corpus;
  const auto longest = [&] {
    size_t bytes = 0;
    for (const std::string& text : corpus.texts) bytes = std::max(bytes, text.size());
    return bytes;
  }();
  const auto written = [&](const TokenizeLimits& limits) {
    TokenizeOptions options = corpus.options("limited");
    options.threads = 3;
    options.limits = limits;
    tokenize(options, corpus.tokenizer);
    return read_file(corpus.dir / "limited.bin") + read_file(corpus.dir / "limited.idx");
  };
  const std::string expected = written({});
  // Below, at and above a document, and 2.5 of them; and less than any document needs, which then goes alone.
  for (const size_t limit : {size_t{1}, longest - 1, longest, longest + 1, longest * 5 / 2}) {
    INFO("limit " << limit);
    CHECK((written({.batch = limit}) == expected));
    CHECK((written({.batch = 1, .encoded_at_once = limit}) == expected));
    CHECK((written({.batch = 1, .in_flight = limit}) == expected));
  }
}

TEST_CASE("the split is by document, complete, near the fraction, and set by the text") {
  const Corpus corpus;
  TokenizeOptions options = corpus.options("train");
  options.val_output = corpus.dir / "val";
  options.val_fraction = 0.25;
  const TokenizeSummary summary = tokenize(options, corpus.tokenizer);
  CHECK(summary.train.documents + summary.val.documents == 400);
  CHECK(std::abs(static_cast<double>(summary.val.documents) - 100) < 45);  // binomial sd 8.7: five of them
  std::map<std::vector<int32_t>, char> side;
  for (const auto& ids : documents(corpus.dir / "train")) side[ids] = 't';
  for (const auto& ids : documents(corpus.dir / "val")) {
    CHECK(side.count(ids) == 0);
    side[ids] = 'v';
  }
  CHECK(side.size() == 400);

  // The same documents from other files in another order go to the same sides.
  write_file(corpus.dir / "other/x.jsonl", jsonl({corpus.texts.rbegin(), corpus.texts.rend()}));
  options.inputs = {corpus.dir / "other"};
  options.output = corpus.dir / "train2";
  options.val_output = corpus.dir / "val2";
  tokenize(options, corpus.tokenizer);
  bool same = true;
  for (const auto& ids : documents(corpus.dir / "train2")) same &= side[ids] == 't';
  for (const auto& ids : documents(corpus.dir / "val2")) same &= side[ids] == 'v';
  CHECK(same);
}

TEST_CASE("a .txt in many parts is one document with the same ids") {
  const Corpus corpus;
  const std::string text = small_document(77, 20000);  // more than one batch
  write_file(corpus.dir / "long/a.txt", text);
  write_file(corpus.dir / "long/b.txt", corpus.texts[0]);
  TokenizeOptions options = corpus.options("out");
  options.inputs = {corpus.dir / "long"};
  options.threads = 2;
  options.text.max_part = 5000;
  tokenize(options, corpus.tokenizer);
  const auto found = documents(corpus.dir / "out");
  REQUIRE(found.size() == 2);
  std::vector<int32_t> expected = corpus.tokenizer.encode(text);
  expected.insert(expected.begin(), 1);
  expected.push_back(2);
  CHECK((found[0] == expected));
}

TEST_CASE("one .txt that is split can be shared out between training and validation") {
  const Corpus corpus;
  std::string play;
  for (size_t i = 0; i < 60; ++i) play += small_document(1000 + i, 3) + "\n";
  write_file(corpus.dir / "play/play.txt", play);
  TokenizeOptions options = corpus.options("out");
  options.inputs = {corpus.dir / "play"};
  options.val_output = corpus.dir / "val";
  options.val_fraction = 0.2;
  options.text.splitting = Splitting::parse("blank-lines");
  const TokenizeSummary summary = tokenize(options, corpus.tokenizer);
  CHECK(summary.train.documents + summary.val.documents == 60);
  CHECK(summary.val.documents > 0);
  std::string first = small_document(1000, 3);
  first.pop_back();
  const auto all = documents(corpus.dir / "out"), val = documents(corpus.dir / "val");
  const auto decoded = [&](const std::vector<int32_t>& ids) { return corpus.tokenizer.decode(ids); };
  CHECK((decoded(all[0]) == first || decoded(val[0]) == first));
}

TEST_CASE("the summary says what was left out and replaced") {
  const Corpus corpus;
  write_file(corpus.dir / "mixed/a.jsonl", "{\"text\":\"one \\ud800\",\"x\":NaN}\n{\"text\":\n{\"text\":\"two\"}\n");
  write_file(corpus.dir / "mixed/a.pdf", "x");
  write_file(corpus.dir / "mixed/.b.txt", "x");
  TokenizeOptions options = corpus.options("out");
  options.inputs = {corpus.dir / "mixed"};
  options.text.skip_bad_records = 1;
  const TokenizeSummary summary = tokenize(options, corpus.tokenizer);
  CHECK(summary.train.documents == 2);
  CHECK_THAT(to_string(summary), Catch::Contains("2 documents") && Catch::Contains("1 bad records skipped") &&
                                     Catch::Contains("1 lone surrogates replaced by U+FFFD") &&
                                     Catch::Contains("2 files or other entries not read"));
}

TEST_CASE("BOS and EOS can be left out") {
  const Corpus corpus;
  TokenizeOptions options = corpus.options("out");
  options.add_bos = options.add_eos = false;
  tokenize(options, corpus.tokenizer);
  CHECK(documents(corpus.dir / "out")[0] == corpus.tokenizer.encode(corpus.texts[0]));
}

TEST_CASE("an empty corpus and bad text are refused, and nothing is left") {
  const Corpus corpus;
  const size_t before = corpus.dir.entries();
  const auto check = [&](TokenizeOptions options, std::initializer_list<std::string> words) {
    options.threads = 2;
    check_error([&] { tokenize(options, corpus.tokenizer); }, words);
    CHECK(corpus.dir.entries() == before);
  };
  const TemporaryDirectory inputs;
  TokenizeOptions options = corpus.options("out");

  options.inputs = {inputs / "none"};
  check(options, {"none"});
  options.inputs = {inputs.path()};
  check(options, {"no text file"});
  write_file(inputs / "a.txt", "");
  write_file(inputs / "b.jsonl", "\n\n{\"text\":\"\"}\n");
  check(options, {"corpus is empty"});
  // Bad input after much good input: batches are in flight when it is met.
  write_file(inputs / "c.jsonl", jsonl(corpus.texts) + "{\"text\":\"\xE9\"}\n" + jsonl(corpus.texts));
  check(options, {"c.jsonl", "line 401", "UTF-8"});
  std::filesystem::remove(inputs / "c.jsonl");
  write_file(inputs / "d.txt", "one document");
  options.val_output = corpus.dir / "val";
  options.val_fraction = 1e-9;
  check(options, {"one document", "--split-documents"});
  write_file(inputs / "e.txt", "another document");
  check(options, {"none of 2 documents", "validation", "larger", "--split-documents"});
  options.val_fraction = 1 - 1e-9;
  check(options, {"no document is left for training", "smaller"});
  options.text.splitting = Splitting::parse("paragraph");
  check(options, {"--split-documents", "'paragraph'", "no .txt"});
  options.text.splitting = {};
  options.val_fraction = 0;
  check(options, {"fraction"});
  options.val_output = corpus.dir / "./out";
  options.val_fraction = 0.5;
  check(options, {"both"});
}

TEST_CASE("an error thrown by the progress call stops the threads") {
  const Corpus corpus;
  TokenizeOptions options = corpus.options("out");
  options.threads = 3;
  check_error([&] { tokenize(options, corpus.tokenizer, [](const TokenizeSummary&) { fail("stop"); }); }, {"stop"});
  CHECK(!std::filesystem::exists(corpus.dir / "out.idx"));
}
