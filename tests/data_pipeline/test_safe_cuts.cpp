// A text that is encoded in parts has the ids that SentencePiece itself gives for the whole text, for every kind of
// model that its trainer can make. SentencePiece is asked directly here, without any of strand's code between.
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <array>
#include <random>
#include <unordered_map>
#include <vector>

#include "data/charsmap.h"
#include "data/safe_cuts.h"
#include "data/token_file.h"
#include "data/tokenize.h"
#include "data/tokenizer.h"
#include "files.h"
#include "small_corpus.h"

using namespace strand;
using namespace strand_test;

namespace {

using TrainerOptions = std::unordered_map<std::string, std::string>;

class Lines : public sentencepiece::SentenceIterator {
 public:
  explicit Lines(std::vector<std::string> lines) : lines_(std::move(lines)) {}
  bool done() const override { return at_ == lines_.size(); }
  void Next() override { ++at_; }
  const std::string& value() const override { return lines_[at_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  std::vector<std::string> lines_;
  size_t at_ = 0;
};

std::string train(TrainerOptions options) {
  options.merge(TrainerOptions{{"vocab_size", "300"},
                               {"model_type", "bpe"},
                               {"hard_vocab_limit", "false"},
                               {"num_threads", "1"},
                               {"minloglevel", "2"}});
  std::vector<std::string> lines;
  for (uint64_t i = 0; i < 400; ++i) {
    std::string line = small_document(i, 1);
    line.pop_back();
    lines.push_back(line);
  }
  Lines iterator(lines);
  std::string model;
  REQUIRE(sentencepiece::SentencePieceTrainer::Train(options, &iterator, &model).ok());
  return model;
}

struct Kind {
  std::string name;
  TrainerOptions options;
  bool can_be_cut;
};

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {
      {"bpe as SentencePiece trains it", {}, true},
      {"bpe with byte fallback", {{"byte_fallback", "true"}, {"vocab_size", "600"}}, true},
      {"bpe, identity", {{"normalization_rule_name", "identity"}, {"remove_extra_whitespaces", "false"}}, true},
      {"bpe, identity, spaces removed", {{"normalization_rule_name", "identity"}}, true},
      {"bpe, nfkc, spaces kept", {{"normalization_rule_name", "nfkc"}, {"remove_extra_whitespaces", "false"}}, true},
      {"bpe, case folding", {{"normalization_rule_name", "nmt_nfkc_cf"}}, true},
      {"bpe without dummy prefix", {{"add_dummy_prefix", "false"}}, true},
      {"bpe without dummy prefix, spaces kept",
       {{"add_dummy_prefix", "false"},
        {"remove_extra_whitespaces", "false"},
        {"normalization_rule_name", "identity"},
        {"byte_fallback", "true"},
        {"vocab_size", "600"}},
       true},
      {"bpe with a newline piece",
       {{"user_defined_symbols", "\n"},
        {"normalization_rule_name", "identity"},
        {"remove_extra_whitespaces", "false"},
        {"byte_fallback", "true"},
        {"vocab_size", "600"}},
       true},
      {"bpe with pieces of several newlines and of symbols",
       {{"user_defined_symbols", "\n,\n\n,\n\n\n,a\n,<sep>,\u2581\u2581,x\u2581y,the"},
        {"normalization_rule_name", "identity"},
        {"remove_extra_whitespaces", "false"}},
       true},
      {"bpe across words", {{"split_by_whitespace", "false"}, {"normalization_rule_name", "identity"}}, true},
      {"bpe across words, nfkc", {{"split_by_whitespace", "false"}}, false},
      {"bpe with whitespace pieces",
       {{"allow_whitespace_only_pieces", "true"},
        {"normalization_rule_name", "identity"},
        {"remove_extra_whitespaces", "false"},
        {"byte_fallback", "true"},
        {"vocab_size", "600"}},
       true},
      {"bpe with whitespace as suffix", {{"treat_whitespace_as_suffix", "true"}}, false},
      {"bpe with whitespace as suffix, spaces kept",
       {{"treat_whitespace_as_suffix", "true"},
        {"normalization_rule_name", "identity"},
        {"remove_extra_whitespaces", "false"}},
       false},
      {"bpe with control symbols", {{"control_symbols", "<pad>,<mask>"}}, true},
      {"characters", {{"model_type", "char"}}, true},
      {"characters, identity",
       {{"model_type", "char"}, {"normalization_rule_name", "identity"}, {"remove_extra_whitespaces", "false"}},
       true},
      {"unigram", {{"model_type", "unigram"}}, false},
      {"unigram, identity, byte fallback",
       {{"model_type", "unigram"},
        {"normalization_rule_name", "identity"},
        {"remove_extra_whitespaces", "false"},
        {"byte_fallback", "true"},
        {"vocab_size", "600"}},
       false},
      {"words", {{"model_type", "word"}}, false},
      {"words, suffix", {{"model_type", "word"}, {"treat_whitespace_as_suffix", "true"}}, false},
  };
  return all;
}

// Words, white space of every sort, and characters that normalizers change, join or do not know.
std::string odd_text(std::mt19937& random, size_t pieces) {
  static const std::vector<std::string> parts = {
      "the",       "router",       "experts",    "couple", "a",      "x",      " ",           " ",
      " ",         "  ",           "   ",        "\n",     "\n",     "\n\n",   "\r\n",        "\t",
      "\u2581",    "\u00a0",       "\u00a8",     "\u3000", "\u200b", "\ufb01", "e\u0301",     "\u0301",
      "\uff21",    "\u4f60",       "\U0001F600", "42",     ".",      "<sep>",  "<pad>",       "</s>",
      "caf\u00e9", "\u2581\u2581", "x y",        "a\n",    "\u00ad", "QZ",     "\u1100\u1161"};
  std::string text;
  for (size_t i = 0; i < pieces; ++i) text += parts[random() % parts.size()];
  return text;
}

struct Pair {
  explicit Pair(const Kind& kind) : model(train(kind.options)),
        owner_of_tokenizer(Tokenizer::from_files({{sentencepiece_file, model}}, kind.name)),
        tokenizer(*owner_of_tokenizer) {
    REQUIRE(oracle.LoadFromSerializedProto(model).ok());
  }
  std::vector<int32_t> whole(const std::string& text) const {
    std::vector<int> ids;
    REQUIRE(oracle.Encode(text, &ids).ok());
    return {ids.begin(), ids.end()};
  }

  std::string model;
  std::unique_ptr<const Tokenizer> owner_of_tokenizer;
  const Tokenizer& tokenizer;
  sentencepiece::SentencePieceProcessor oracle;
};

}  // namespace

TEST_CASE("a text cut at any place that is called safe has the ids of the whole") {
  for (const Kind& kind : kinds()) {
    INFO(kind.name);
    const Pair pair(kind);
    std::mt19937 random(5);
    size_t cuts = 0;
    for (int round = 0; round < 150; ++round) {
      const std::string text = odd_text(random, 40);
      const std::vector<int32_t> expected = pair.whole(text);
      REQUIRE(pair.tokenizer.encode(text) == expected);
      std::vector<int32_t> in_parts;  // at every safe place at once
      size_t begin = 0;
      for (size_t cut = pair.tokenizer.find_cut(text, 1); cut != std::string::npos;
           cut = pair.tokenizer.find_cut(text, cut + 1)) {
        INFO("cut at " << cut << " of " << text);
        std::vector<int32_t> ids;
        pair.tokenizer.encode(std::string_view(text).substr(0, cut), ids, TextPosition::start);
        pair.tokenizer.encode(std::string_view(text).substr(cut), ids, TextPosition::continuation);
        REQUIRE(ids == expected);
        pair.tokenizer.encode(std::string_view(text).substr(begin, cut - begin), in_parts,
                              begin == 0 ? TextPosition::start : TextPosition::continuation);
        begin = cut;
        ++cuts;
      }
      pair.tokenizer.encode(std::string_view(text).substr(begin), in_parts,
                            begin == 0 ? TextPosition::start : TextPosition::continuation);
      INFO("all cuts of " << text);
      REQUIRE(in_parts == expected);
    }
    if (kind.can_be_cut) {
      CHECK(cuts > 300);
    } else {
      CHECK(cuts == 0);
    }
  }
}

TEST_CASE("a text around the size of the blocks that are encoded has the ids of the whole") {
  constexpr size_t block = Tokenizer::block_bytes;
  for (const Kind& kind : kinds()) {
    INFO(kind.name);
    const Pair pair(kind);
    std::mt19937 random(6);
    std::string words;
    while (words.size() < 3 * block) words += odd_text(random, 40) + " \u00e9t\u00e9\nthe river ";
    for (const size_t bytes : {block - 1, block, block + 1, block + 2, 2 * block, 2 * block + 1, 5 * block / 2}) {
      size_t end = bytes;
      while ((static_cast<unsigned char>(words[end]) & 0xC0) == 0x80) --end;  // not inside a character
      const std::string text = words.substr(0, end);
      INFO(end << " bytes");
      REQUIRE((pair.tokenizer.encode(text) == pair.whole(text)));
    }
  }
}

TEST_CASE("a long text in a file has the ids of the whole, whatever the model") {
  const TemporaryDirectory dir;
  std::mt19937 random(6);
  std::string text = odd_text(random, 4000);
  for (int i = 0; i < 40; ++i) text += small_document(static_cast<uint64_t>(i), 30) + odd_text(random, 20);
  REQUIRE(text.size() > 60000);  // several blocks
  write_file(dir / "a.txt", text);
  for (const Kind& kind : kinds()) {
    INFO(kind.name);
    const Pair pair(kind);
    TokenizeOptions options;
    options.inputs = {dir / "a.txt"};
    options.output = dir / "out";
    options.add_bos = options.add_eos = false;
    options.threads = 2;
    options.text.max_part = 3000;
    tokenize(options, pair.tokenizer);
    const TokenFile file(dir / "out");
    std::vector<int32_t> ids(static_cast<size_t>(file.tokens()));
    file.read(0, file.tokens(), pair.tokenizer.vocab_size(), ids.data());
    CHECK(file.documents() == 1);
    CHECK((ids == pair.whole(text)));
  }
}

TEST_CASE("one endless line is cut at its spaces, and what can not be cut is held up to a limit") {
  const TemporaryDirectory dir;
  std::string line;  // as text8: lower-case words on one line
  for (int i = 0; i < 3000; ++i) line += small_document(static_cast<uint64_t>(i), 1);
  for (char& c : line) c = c == '\n' ? ' ' : c;
  write_file(dir / "a.txt", line);
  for (const char* type : {"bpe", "unigram"}) {
    const Pair pair({type, {{"model_type", type}}, true});
    TokenizeOptions options;
    options.inputs = {dir / "a.txt"};
    options.output = dir / "out";
    options.add_bos = options.add_eos = false;
    options.text.max_part = 1000;
    options.text.max_document = 70000;  // far less than the text
    if (std::string(type) == "unigram") {
      check_error([&] { tokenize(options, pair.tokenizer); },
                  {"a.txt", "70000 bytes", "--max-document", "--split-documents"});
      options.text.max_document = line.size() + 100000;
      options.available_memory = 50 * line.size();
      check_error([&] { tokenize(options, pair.tokenizer); }, {"a.txt", "GiB of memory", "--split-documents"});
      options.available_memory = 200 * line.size();
    }
    CHECK((pair.tokenizer.longest_block(line) == line.size()) == (std::string(type) == "unigram"));
    tokenize(options, pair.tokenizer);
    const TokenFile file(dir / "out");
    std::vector<int32_t> ids(static_cast<size_t>(file.tokens()));
    file.read(0, file.tokens(), pair.tokenizer.vocab_size(), ids.data());
    CHECK((ids == pair.whole(line)));
  }
}

TEST_CASE("a model with unused pieces is not cut") {
  // BPE takes an unused piece apart as it was put together last, anywhere in the text.
  const std::string model = train({});
  SentencePieceModel parsed = SentencePieceModel::parse(model, "model");
  CHECK(SafeCuts(parsed).possible());
  parsed.pieces.back().type = PieceType::unused;
  CHECK(!SafeCuts(parsed).possible());
}

TEST_CASE("a model that does not know the character at the border is not cut there") {
  // Unknown neighbours on both sides of the border would become one id.
  SentencePieceModel parsed = SentencePieceModel::parse(train({}), "model");
  for (Piece& piece : parsed.pieces) {
    if (piece.text == "\u2581") piece.text = "\u4f60";
  }
  CHECK(!SafeCuts(parsed).possible());
  parsed.byte_fallback = true;  // each unknown character is its bytes
  CHECK(SafeCuts(parsed).possible());
}

TEST_CASE("the rules of a model's charsmap are read out of its trie") {
  const SentencePieceModel model = SentencePieceModel::parse(train({}), "model");  // nmt_nfkc
  const auto rules = character_rules(model.charsmap);
  REQUIRE(rules.has_value());
  std::unordered_map<std::string, std::string> to;
  for (const CharacterRule& rule : *rules) to[rule.from] = rule.to;
  CHECK(to.at("\u00a0") == " ");
  CHECK(to.at("\ufb01") == "fi");
  CHECK(to.at("e\u0301") == "\u00e9");
  CHECK(to.at("\n") == " ");
  CHECK(to.count("e") == 0);
  CHECK(to.size() > 5000);

  CHECK(character_rules("")->empty());
  std::mt19937 random(3);
  for (int i = 0; i < 300; ++i) {  // damaged ones end in an answer, whatever it is
    std::string damaged = model.charsmap;
    for (int edit = 0; edit < 50; ++edit) damaged[random() % damaged.size()] = static_cast<char>(random());
    if (i % 3 == 0) damaged.resize(random() % damaged.size());
    character_rules(damaged);
  }
}
