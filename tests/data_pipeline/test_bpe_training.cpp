// Training of byte-level BPE: the merges are those of a naive loop, the files make a tokenizer, what cannot be trained
// is refused. scripts/tokenizer_parity.py loads such files with AutoTokenizer.
#include <map>
#include <string>
#include <vector>

#include "core/random.h"
#include "data/bpe/bpe_training.h"
#include "data/tokenizer.h"
#include "data/tokenizer_training.h"
#include "files.h"
#include "small_corpus.h"

using namespace strand;
using namespace strand_test;

namespace {
using Pair = std::pair<int32_t, int32_t>;
using Words = std::vector<std::vector<int32_t>>;

/// Counts all pairs anew for every merge. The words are letters, each with the space before it.
std::vector<Pair> naive_merges(const std::string& text, size_t count) {
  Words words(1);
  for (const char c : text) {
    if (c == ' ') words.emplace_back();
    words.back().push_back(2 + static_cast<unsigned char>(c));
  }
  std::vector<Pair> merges;
  while (merges.size() < count) {
    std::map<Pair, int64_t> counts;
    for (const auto& word : words)
      for (size_t i = 0; i + 1 < word.size(); ++i) ++counts[{word[i], word[i + 1]}];
    Pair best;
    int64_t most = 1;
    for (const auto& [pair, times] : counts) {  // in the order of the ids, so that the first of equals stays
      if (times > most) {
        most = times;
        best = pair;
      }
    }
    if (most == 1) break;
    const auto made = static_cast<int32_t>(fixed_bpe_tokens + static_cast<int64_t>(merges.size()));
    merges.push_back(best);
    for (auto& word : words) {
      std::vector<int32_t> merged;
      for (size_t i = 0; i < word.size(); ++i) {
        const bool found = i + 1 < word.size() && Pair(word[i], word[i + 1]) == best;
        merged.push_back(found ? made : word[i]);
        i += found ? 1 : 0;
      }
      word = merged;
    }
  }
  return merges;
}

std::string letters_and_spaces(uint64_t seed, size_t count) {
  const std::string characters = "aaabbcd   ";
  std::string text = "a";
  for (size_t i = 0; i < count; ++i) {
    const char c = characters[random_bits(seed, i) % characters.size()];
    if (c != ' ' || text.back() != ' ') text += c;
  }
  return text + "a";
}

TokenizerTraining training(const TemporaryDirectory& dir, const std::string& output) {
  TokenizerTraining options;
  options.type = TokenizerType::bpe_bytes;
  options.inputs = {dir / "corpus.txt"};
  options.output = dir / output;
  options.vocab_size = 330;
  return options;
}
}  // namespace

TEST_CASE("merges are found as a naive loop finds them") {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    const std::string text = letters_and_spaces(seed, 400);
    CHECK(find_merges({text}, 60) == naive_merges(text, 60));
    CHECK(find_merges({text}, 100000) == naive_merges(text, 100000));  // until no pair occurs twice
  }
  CHECK(find_merges({"aaaa aaaa"}, 10) == naive_merges("aaaa aaaa", 10));
}

TEST_CASE("a trained tokenizer begins texts with BOS, keeps every text, and is the same again") {
  const TemporaryDirectory dir;
  write_file(dir / "corpus.txt", small_document(1, 3000));
  const TokenizerTrainingSummary summary = train_tokenizer(training(dir, "one/tokenizer.json"));
  CHECK(summary.vocab_size == 330);
  CHECK(summary.every_line);
  const auto tokenizer = Tokenizer::load(dir / "one/tokenizer.json");
  CHECK(tokenizer->bos_id() == 0);
  CHECK(tokenizer->eos_id() == 1);
  CHECK(tokenizer->begins_with_bos());
  CHECK_FALSE(tokenizer->special().end_with_eos);
  CHECK(tokenizer->is_control(1));
  CHECK(tokenizer->piece(2) == "\u0100");
  CHECK(tokenizer->encode(" experts which").size() == 2);  // frequent words are tokens
  CHECK(tokenizer->encode("2024").size() == 4);            // digits are taken one by one
  CHECK(tokenizer->encode(".\n").size() == 1);             // and lines end as they do in the text
  CHECK(tokenizer->find_cut("a text of words", 3) == 6);
  for (const std::string text : {"the router", "  \u00e9\u4e2d\U0001F600\r\n\n"})
    CHECK(tokenizer->decode(tokenizer->encode(text)) == text);
  train_tokenizer(training(dir, "two/tokenizer.json"));
  for (const std::string file : {"tokenizer.json", "tokenizer_config.json"})
    CHECK(read_file(dir / ("one/" + file)) == read_file(dir / ("two/" + file)));
  CHECK(dir.entries() == 7);
}

TEST_CASE("what cannot be trained is refused, and leaves nothing") {
  const TemporaryDirectory dir;
  write_file(dir / "corpus.txt", "tiny tiny text");
  check_error([&] { train_tokenizer(training(dir, "tokenizer.json")); },
              {"330 pieces", "14 bytes", "found more than once", "261 pieces"});
  check_error([&] { train_tokenizer(training(dir, "mine.model")); }, {"mine.model", "must be tokenizer.json"});
  TokenizerTraining small = training(dir, "tokenizer.json");
  small.vocab_size = 258;
  check_error([&] { train_tokenizer(small); }, {"258", "at least 259"});
  CHECK(dir.entries() == 1);
}
