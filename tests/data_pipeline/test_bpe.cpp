// Byte-level BPE: what is expected is worked out by hand, or by a naive merge loop written here.
// scripts/tokenizer_parity.py holds the same code against Hugging Face's tokenizers.
#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/random.h"
#include "data/bpe/byte_alphabet.h"
#include "data/bpe/merges.h"
#include "data/describe.h"
#include "data/tokenizer.h"
#include "data/utf8.h"
#include "files.h"

using namespace strand;
using namespace strand_test;
using nlohmann::json;

namespace {
using Ids = std::vector<int32_t>;

const std::string qwen_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// A tokenizer.json with the 256 bytes, each with its own number as id, and these merges (the texts of two tokens, as
/// bytes), whose results are the ids from 256 on.
json small_json(const std::vector<std::pair<std::string, std::string>>& merges) {
  json vocabulary = json::object(), spelled_merges = json::array();
  for (int byte = 0; byte < 256; ++byte) vocabulary[spelled_byte(static_cast<uint8_t>(byte))] = byte;
  for (const auto& [left, right] : merges) {
    spelled_merges.push_back(spell_bytes(left) + " " + spell_bytes(right));
    if (!vocabulary.contains(spell_bytes(left + right))) vocabulary[spell_bytes(left + right)] = vocabulary.size();
  }
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer",
           {{"type", "Sequence"},
            {"pretokenizers",
             {{{"type", "Split"}, {"pattern", {{"Regex", qwen_pattern}}}, {"behavior", "Isolated"}, {"invert", false}},
              {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}}}}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", spelled_merges}}}};
}

const std::vector<std::pair<std::string, std::string>> hello = {
    {"h", "e"}, {"l", "l"}, {"he", "ll"}, {"hell", "o"}, {" ", "w"}, {"a", "a"}, {"\xC3", "\xA9"}, {"o", "\xCC"}};
constexpr int32_t he = 256, ll = 257, hell = 258, hello_id = 259, space_w = 260, aa = 261, e_acute = 262;

json added(int32_t id, const std::string& content, const std::vector<std::string>& flags = {}) {
  json token = {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", false}, {"special", false}};
  for (const std::string& flag : flags) token[flag] = true;
  return token;
}

std::unique_ptr<const Tokenizer> tokenizer_of(const json& content, const json& config = nullptr) {
  NamedFiles files{{tokenizer_json_file, content.dump()}};
  if (!config.is_null()) files.emplace(tokenizer_config_file, config.dump());
  return Tokenizer::from_files(files, "dir/tokenizer.json");
}

std::vector<std::pair<int32_t, std::string>> with_texts(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<std::pair<int32_t, std::string>> out;
  for (const TokenSpan& span : tokenizer.encode_with_spans(text))
    out.emplace_back(span.id, text.substr(span.bytes.begin, span.bytes.end - span.bytes.begin));
  return out;
}
using Tokens = std::vector<std::pair<int32_t, std::string>>;

/// A text of letters, spaces and everything else, by a fixed recurrence.
std::string random_text(uint64_t seed, size_t characters) {
  const std::vector<std::string> parts = {"a",       "b",   "hello", " ",  "  ",     "\n",    "\r\n",
                                          "'s",      "'LL", "1",     "23", ".",      "--",    "é",
                                          "e\u0301", "中",  "😀",     "\t", "\u00a0", "<|a|>", "w"};
  std::string text;
  for (size_t i = 0; i < characters; ++i) text += parts[random_bits(seed, i) % parts.size()];
  return text;
}
}  // namespace

TEST_CASE("Bytes are spelled as GPT-2 spells them") {
  CHECK(spelled_byte(' ') == "Ġ");
  CHECK(spelled_byte('\n') == "Ċ");
  CHECK(spelled_byte('a') == "a");
  CHECK(spelled_byte(0) == "Ā");
  CHECK(spelled_byte(0xAD) == "\u0143");  // the last of the 68
  CHECK(spelled_byte(0xFF) == "ÿ");
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  CHECK(read_spelled(spell_bytes(all)) == all);
  CHECK(read_spelled("a b") == std::nullopt);
  CHECK(read_spelled("\u0144") == std::nullopt);
}

TEST_CASE("The lowest rank is merged first, and the leftmost of equal ones") {
  const auto tokenizer = tokenizer_of(small_json(hello));
  CHECK(tokenizer->vocab_size() == 264);
  CHECK(tokenizer->encode("hello") == Ids{hello_id});
  CHECK(tokenizer->encode("hell") == Ids{hell});
  CHECK(tokenizer->encode("helo") == Ids{he, 'l', 'o'});
  CHECK(tokenizer->encode("helllo") == Ids{hell, 'l', 'o'});  // "ll" on the left, then "he ll"
  CHECK(tokenizer->encode("aaa") == Ids{aa, 'a'});
  CHECK(tokenizer->encode("hello world") == Ids{hello_id, space_w, 'o', 'r', 'l', 'd'});
  CHECK(tokenizer->encode("é") == Ids{e_acute});
  CHECK(tokenizer->encode("") == Ids{});
  CHECK(tokenizer->piece(space_w) == "Ġw");
  CHECK(tokenizer->is_byte('a'));
  CHECK_FALSE(tokenizer->is_byte(he));
  CHECK(tokenizer->kind() == "byte-level BPE tokenizer");
}

TEST_CASE("Short and long pieces are merged as a naive loop merges them") {
  // Random merges over few letters, so that many pairs have one, many of them overlap, and some tokens can be made in
  // several ways.
  std::vector<std::string> texts = {"a", "b", "c"};
  std::vector<Merge> merges;
  for (uint64_t i = 0; texts.size() < 60; ++i) {
    const size_t left = random_bits(1, i) % texts.size(), right = random_bits(2, i) % texts.size();
    const std::string whole = texts[left] + texts[right];
    const auto known = std::find(texts.begin(), texts.end(), whole);
    const auto id = static_cast<int32_t>(known - texts.begin());
    if (known == texts.end()) texts.push_back(whole);
    const bool repeated = std::any_of(merges.begin(), merges.end(), [&](const Merge& m) {
      return m.left == static_cast<int32_t>(left) && m.right == static_cast<int32_t>(right);
    });
    if (!repeated) merges.push_back({static_cast<int32_t>(left), static_cast<int32_t>(right), id});
  }
  const auto naive = [&](const std::string& piece) {
    Ids ids;
    for (const char c : piece) ids.push_back(c - 'a');
    while (true) {
      size_t best_rank = merges.size(), best = 0;
      for (size_t i = 0; i + 1 < ids.size(); ++i) {
        for (size_t rank = 0; rank < best_rank; ++rank) {
          if (merges[rank].left != ids[i] || merges[rank].right != ids[i + 1]) continue;
          best_rank = rank;
          best = i;
        }
      }
      if (best_rank == merges.size()) return ids;
      ids[best] = merges[best_rank].whole;
      ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
  };
  const PieceEncoder encoder(texts, merges, {});
  for (const size_t length : {1, 2, 3, 5, 20, 63, 64, 65, 66, 200, 500}) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      std::string piece;
      for (size_t i = 0; i < length; ++i) piece += static_cast<char>('a' + random_bits(100 + seed, i) % 3);
      std::vector<PieceToken> tokens;
      encoder.encode(piece, tokens);
      Ids ids;
      std::string spelled;
      for (const PieceToken& token : tokens) {
        ids.push_back(token.id);
        spelled += texts[static_cast<size_t>(token.id)];
        CHECK(token.bytes == texts[static_cast<size_t>(token.id)].size());
      }
      CHECK(ids == naive(piece));
      CHECK(spelled == piece);
    }
  }
}

TEST_CASE("A piece of a hundred thousand bytes takes n log n steps") {
  const auto tokenizer = tokenizer_of(small_json(hello));
  const Ids ids = tokenizer->encode(std::string(200001, 'a'));
  CHECK(ids.size() == 100001);
  CHECK(ids.front() == aa);
  CHECK(ids.back() == 'a');
}

TEST_CASE("ignore_merges takes a token whatever the merges say") {
  json content = small_json(hello);
  content["model"]["vocab"]["world"] = 264;  // no merge makes it
  CHECK(tokenizer_of(content)->encode("world") == Ids{'w', 'o', 'r', 'l', 'd'});
  content["model"]["ignore_merges"] = true;
  CHECK(tokenizer_of(content)->encode("world") == Ids{264});
}

TEST_CASE("Added tokens: leftmost, longest, and what stands beside them") {
  json content = small_json(hello);
  content["added_tokens"] = {added(300, "<|a|>", {"special"}),    added(301, "<|a|>b"),
                             added(302, "<l>", {"lstrip"}),       added(303, "<r>", {"rstrip"}),
                             added(304, "word", {"single_word"}), added(305, "caf\u00e9", {"normalized"})};
  content["normalizer"] = {{"type", "NFC"}};
  const auto tokenizer = tokenizer_of(content);
  CHECK(tokenizer->vocab_size() == 306);
  CHECK(tokenizer->piece(300) == "<|a|>");
  CHECK(tokenizer->piece(299).empty());
  CHECK(tokenizer->is_control(300));
  CHECK_FALSE(tokenizer->is_control(301));
  CHECK(with_texts(*tokenizer, "hello<|a|>") == Tokens{{hello_id, "hello"}, {300, "<|a|>"}});
  CHECK(with_texts(*tokenizer, "<|a|>b<|a|>") == Tokens{{301, "<|a|>b"}, {300, "<|a|>"}});
  CHECK(with_texts(*tokenizer, "a \u3000<l> a") == Tokens{{'a', "a"}, {302, " \u3000<l>"}, {' ', " "}, {'a', "a"}});
  CHECK(with_texts(*tokenizer, "a<r> \n a") == Tokens{{'a', "a"}, {303, "<r> \n "}, {'a', "a"}});
  CHECK(with_texts(*tokenizer, "word a") == Tokens{{304, "word"}, {' ', " "}, {'a', "a"}});
  CHECK(tokenizer->encode("wordy").size() == 5);
  CHECK(tokenizer->encode("_word").size() == 5);
  CHECK(with_texts(*tokenizer, "-word-")[1] == Tokens::value_type{304, "word"});
  CHECK(with_texts(*tokenizer, "cafe\u0301!") == Tokens{{305, "cafe\u0301"}, {'!', "!"}});
  CHECK(tokenizer->decode(Ids{hello_id, 300, 301, 305}) == "hello<|a|>bcaf\u00e9");  // control tokens are no text
}

TEST_CASE("Every token knows its bytes, also where characters are composed") {
  json content = small_json(hello);
  content["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}}}};
  const auto tokenizer = tokenizer_of(content);
  const std::string text = "he e\u0301ll";
  const std::vector<TokenSpan> spans = tokenizer->encode_with_spans(text);
  REQUIRE(spans.size() == 4);
  CHECK(spans[0].bytes == ByteRange{0, 2});
  CHECK(spans[1].bytes == ByteRange{2, 3});
  CHECK(spans[2].id == e_acute);
  CHECK(spans[2].bytes == ByteRange{3, 6});  // the letter and its mark
  CHECK(spans[3].id == ll);
  CHECK(spans[3].bytes == ByteRange{6, 8});
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const std::string random = random_text(seed, 40);
    Ids ids;
    size_t end = 0;
    for (const TokenSpan& span : tokenizer->encode_with_spans(random)) {
      ids.push_back(span.id);
      CHECK(span.bytes.begin <= end);  // no byte is left out
      end = std::max(end, span.bytes.end);
    }
    CHECK(end == random.size());
    CHECK(ids == tokenizer->encode(random));
  }
}

TEST_CASE("Composition is that of Unicode 9") {
  json content = small_json(hello);
  content["normalizer"] = {{"type", "NFC"}};
  const auto tokenizer = tokenizer_of(content);
  // U+0332 has a lower combining class than U+0301 and than U+09FE, which is of Unicode 11.
  CHECK(tokenizer->decode(tokenizer->encode("x\u0301\u0332")) == "x\u0332\u0301");
  CHECK(tokenizer->decode(tokenizer->encode("x\u09fe\u0332")) == "x\u09fe\u0332");
}

TEST_CASE("Replace and Prepend change the text, and tokens keep their places") {
  json content = small_json(hello);
  content["normalizer"] = {{"type", "Sequence"},
                           {"normalizers",
                            {{{"type", "Prepend"}, {"prepend", "a"}},
                             {{"type", "Replace"}, {"pattern", {{"String", "--"}}}, {"content", "a"}},
                             {{"type", "Replace"}, {"pattern", {{"Regex", "[0-9]+"}}}, {"content", "!"}}}}};
  const auto tokenizer = tokenizer_of(content);
  CHECK(with_texts(*tokenizer, "a--b123") == Tokens{{aa, "a"}, {'a', "--"}, {'b', "b"}, {'!', "123"}});
  CHECK(tokenizer->encode("") == Ids{});
  CHECK(tokenizer->find_cut("a word and more", 0) == std::string::npos);
}

TEST_CASE("A file that would fill the memory or the stack is refused") {
  json content = small_json(hello);
  const json twice = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}};
  content["normalizer"] = {{"type", "Sequence"}, {"normalizers", std::vector<json>(60, twice)}};
  const auto tokenizer = tokenizer_of(content);
  check_error([&] { tokenizer->encode("a"); }, {"a normalizer makes"});
  content = small_json(hello);
  json& stages = content["pre_tokenizer"]["pretokenizers"];
  std::vector<json> many(200, stages[0]);
  many.push_back(stages[1]);
  stages = many;
  check_error([&] { tokenizer_of(content); }, {"pre_tokenizer", "more than 64 stages"});
}

TEST_CASE("Byte-level text survives, and bytes that are no text become U+FFFD") {
  const auto tokenizer = tokenizer_of(small_json(hello));
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const std::string text = random_text(seed, 60);
    CHECK(tokenizer->decode(tokenizer->encode(text)) == text);
  }
  CHECK(tokenizer->decode(Ids{0xF0, 0x9F, 0x98}) == "\uFFFD");
  CHECK(tokenizer->decode(Ids{0xF0, 0x9F, 'a', 0xFF, 0xC3}) == "\uFFFDa\uFFFD\uFFFD");
  check_error([&] { tokenizer->decode(Ids{264}); }, {"dir/tokenizer.json", "264"});
  check_error([&] { tokenizer->decode(Ids{-1}); }, {"-1"});
  check_error([&] { tokenizer->encode("ab\xFF"); }, {"dir/tokenizer.json", "not UTF-8 at byte 2"});
}

TEST_CASE("Ill-formed bytes are replaced by maximal subparts") {
  // The Unicode standard 15, section 3.9, tables 3-8 to 3-11.
  const std::string r = "\uFFFD";
  CHECK(with_replacements("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41") == r + r + r + r + r + r + r + r + "A");
  CHECK(with_replacements("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41") == r + r + r + r + r + r + r + r + "A");
  CHECK(with_replacements("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42") == r + r + r + r + r + "A" + r + r + "B");
  CHECK(with_replacements("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41") == r + r + r + r + "A");
  CHECK(with_replacements("all \u00e9 good") == "all \u00e9 good");
}

TEST_CASE("A cut at a place that find_cut allows changes no id") {
  json content = small_json(hello);
  content["normalizer"] = {{"type", "NFC"}};
  content["added_tokens"] = {added(300, "<|a|>", {"special", "lstrip"})};
  const auto tokenizer = tokenizer_of(content);
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const std::string text = random_text(seed, 60);
    const Ids whole = tokenizer->encode(text);
    for (size_t cut = tokenizer->find_cut(text, 0); cut != std::string::npos;
         cut = tokenizer->find_cut(text, cut + 1)) {
      Ids parts = tokenizer->encode(text.substr(0, cut));
      tokenizer->encode(std::string_view(text).substr(cut), parts, TextPosition::continuation);
      CHECK(parts == whole);
    }
  }
  CHECK(tokenizer->find_cut("ab cd", 0) == 2);
  CHECK(tokenizer->find_cut("1 2. 3\n4", 0) == std::string::npos);
}

TEST_CASE("Where no cut is proven, there is none") {
  const std::string text = "a word and more";
  const auto cut = [&](const json& content) { return tokenizer_of(content)->find_cut(text, 0); };
  json content = small_json(hello);
  CHECK(cut(content) == 1);
  SECTION("a pattern that is not known") {
    content["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = R"([\p{L} ]+)";
    CHECK(cut(content) == std::string::npos);
  }
  SECTION("no stage matches letters") {
    content["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = R"(\p{N})";
    CHECK(cut(content) == std::string::npos);
  }
  SECTION("another behavior") {
    content["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "MergedWithPrevious";
    CHECK(cut(content) == std::string::npos);
  }
  SECTION("an added token with a letter before a space") {
    content["added_tokens"] = {added(300, "word and")};
    CHECK(cut(content) == std::string::npos);
  }
  SECTION("an added token that takes the white space after it") {
    content["added_tokens"] = {added(300, "<r>", {"rstrip"})};
    CHECK(cut(content) == std::string::npos);
  }
}

TEST_CASE("A long text is encoded in blocks with the same ids and places") {
  const auto tokenizer = tokenizer_of(small_json(hello));
  std::string text;
  for (uint64_t i = 0; text.size() < 5 * Tokenizer::block_bytes; ++i) text += random_text(i, 30) + " aa hello";
  CHECK(tokenizer->longest_block(text) < 2 * Tokenizer::block_bytes);
  size_t end = 0;
  for (const TokenSpan& span : tokenizer->encode_with_spans(text)) {
    CHECK(span.bytes.begin == end);
    end = span.bytes.end;
  }
  CHECK(end == text.size());
  text += "\xFF";
  check_error([&] { tokenizer->encode(text); }, {fmt::format("at byte {}", text.size() - 1)});
}

TEST_CASE("Special tokens come from the post-processor and from tokenizer_config.json") {
  json content = small_json(hello);
  content["added_tokens"] = {added(300, "<bos>", {"special"}), added(301, "<eos>", {"special"})};
  const json begin = {{"SpecialToken", {{"id", "<bos>"}, {"type_id", 0}}}};
  const json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const json bos_template = {{"type", "TemplateProcessing"},
                             {"single", {begin, text}},
                             {"pair", {begin, text, text}},
                             {"special_tokens", {{"<bos>", {{"id", "<bos>"}, {"ids", {300}}, {"tokens", {"<bos>"}}}}}}};
  SECTION("neither says anything") {
    const auto tokenizer = tokenizer_of(content);
    CHECK(tokenizer->bos_id() == -1);
    CHECK(tokenizer->eos_id() == -1);
    CHECK_FALSE(tokenizer->begins_with_bos());
  }
  SECTION("a template") {
    content["post_processor"] = {{"type", "Sequence"}, {"processors", {{{"type", "ByteLevel"}}, bos_template}}};
    const auto tokenizer = tokenizer_of(content);
    CHECK(tokenizer->bos_id() == 300);
    CHECK(tokenizer->begins_with_bos());
    CHECK(tokenizer->encode("hello") == Ids{hello_id});  // it is put there by those who begin a text
  }
  SECTION("names alone put nothing before a text") {
    const auto tokenizer = tokenizer_of(content, {{"bos_token", "<bos>"},
                                                  {"eos_token", {{"content", "<eos>"}}},
                                                  {"pad_token", nullptr},
                                                  {"chat_template", "x"}});
    CHECK(tokenizer->bos_id() == 300);
    CHECK(tokenizer->eos_id() == 301);
    CHECK(tokenizer->special().pad == -1);
    CHECK_FALSE(tokenizer->begins_with_bos());
    CHECK(tokenizer->files().size() == 2);
  }
  SECTION("add_bos_token takes the place of the template") {
    CHECK(tokenizer_of(content, {{"bos_token", "<bos>"}, {"add_bos_token", true}})->begins_with_bos());
    content["post_processor"] = bos_template;
    CHECK_FALSE(tokenizer_of(content, {{"bos_token", "<bos>"}, {"add_bos_token", false}})->begins_with_bos());
  }
  SECTION("a token that is not there") {
    check_error(
        [&] {
          tokenizer_of(content, {{"eos_token", "<none>"}});
        },
        {"dir/tokenizer_config.json", "eos_token", "<none>"});
  }
}

TEST_CASE("A file is read with the tokenizer_config.json beside it, and described") {
  const TemporaryDirectory dir;
  json content = small_json(hello);
  content["added_tokens"] = {added(300, "<eos>", {"special"})};
  write_file(dir / "mine.json", "\n " + content.dump());
  write_file(dir / "tokenizer_config.json", R"({"eos_token": "<eos>"})");
  const auto tokenizer = Tokenizer::load(dir / "mine.json");
  CHECK(tokenizer->eos_id() == 300);
  CHECK(tokenizer->name() == dir / "mine.json");
  const std::string described = describe_tokenizer(dir / "mine.json");
  CHECK(described.find("byte-level BPE tokenizer " + (dir / "mine.json")) != std::string::npos);
  CHECK(described.find("pieces: 301 (256 bytes, 1 control)") != std::string::npos);
}

namespace {
struct Damage {
  const char* place;  ///< a JSON pointer
  json value;
  std::vector<std::string> words;
};
}  // namespace

TEST_CASE("What is not understood is refused by its key") {
  const json good = small_json(hello);
  const std::vector<Damage> all = {
      {"/version", "2.0", {"version", "2.0"}},
      {"/extra", 1, {"\"extra\"", "not understood"}},
      {"/normalizer", {{"type", "Lowercase"}}, {"normalizer", "Lowercase"}},
      {"/normalizer", {{"type", "NFC"}, {"x", 1}}, {"normalizer", "\"x\""}},
      {"/normalizer",
       {{"type", "Replace"}, {"pattern", {{"Regex", "\\w"}}}, {"content", ""}},
       {"pattern.Regex", "\\w"}},
      {"/pre_tokenizer", nullptr, {"no ByteLevel"}},
      {"/pre_tokenizer/type", "Whitespace", {"pre_tokenizer", "Whitespace"}},
      {"/pre_tokenizer/pretokenizers/0/type", "Metaspace", {"pre_tokenizer.pretokenizers[0]", "Metaspace"}},
      {"/pre_tokenizer/pretokenizers/0/behavior", "Contiguous", {"pretokenizers[0].behavior", "Contiguous"}},
      {"/pre_tokenizer/pretokenizers/0/invert", 1, {"pretokenizers[0].invert", "neither true nor false"}},
      {"/pre_tokenizer/pretokenizers/0/pattern", {{"Glob", "*"}}, {"pretokenizers[0].pattern", "\"Glob\""}},
      {"/pre_tokenizer/pretokenizers/0/pattern", json::object(), {"pretokenizers[0].pattern", "either"}},
      {"/pre_tokenizer/pretokenizers/2", {{"type", "Digits"}}, {"pretokenizers[2]", "follow ByteLevel"}},
      {"/post_processor", {{"type", "BertProcessing"}}, {"post_processor", "BertProcessing"}},
      {"/decoder", {{"type", "Metaspace"}}, {"decoder", "Metaspace"}},
      {"/decoder", nullptr, {"\"decoder\" is missing"}},
      {"/model", nullptr, {"\"model\" is missing"}},
      {"/model/type", "WordPiece", {"model", "WordPiece"}},
      {"/model/dropout", 0.1, {"model.dropout"}},
      {"/model/end_of_word_suffix", "</w>", {"model.end_of_word_suffix"}},
      {"/model/byte_fallback", true, {"model.byte_fallback"}},
      {"/model/unk_token", "<unk>", {"model.unk_token", "<unk>"}},
      {"/model/vocab", json::array(), {"model.vocab"}},
      {"/model/vocab/a", 98, {"model.vocab", "same id"}},
      {"/model/vocab/a", -1, {"model.vocab", "\"a\""}},
      {"/model/vocab/a", 16000000, {"model.vocab", "\"a\""}},
      {"/model/vocab/a", "97", {"model.vocab", "\"a\""}},
      {"/model/vocab", {{"a", 0}}, {"model.merges", "entry 0", "\"h\""}},
      {"/model/merges/0", "he", {"model.merges", "entry 0", "\"he\""}},
      {"/model/merges/1", "q q", {"model.merges", "entry 1", "\"qq\"", "not in the vocabulary"}},
      {"/model/merges/1", 7, {"model.merges", "entry 1"}},
      {"/added_tokens", {added(5, "<x>")}, {"added_tokens[0]", "5"}},
      {"/added_tokens", {added(400, "a")}, {"added_tokens[0]", "97"}},
      {"/added_tokens", {added(400, "")}, {"added_tokens[0].content"}},
      {"/added_tokens", {added(400, "<x>"), added(400, "<y>")}, {"added_tokens[1]", "400"}},
      {"/added_tokens", {added(400, "<x>"), added(401, "<x>")}, {"added_tokens[1]", "twice"}},
      {"/added_tokens", {added(2000000000, "<x>")}, {"added_tokens[0].id"}},
  };
  for (const Damage& damage : all) {
    json bad = good;
    bad[json::json_pointer(damage.place)] = damage.value;
    INFO(damage.place << " = " << damage.value.dump());
    std::vector<std::string> words = damage.words;
    words.push_back("dir/tokenizer.json: ");
    check_error([&] { tokenizer_of(bad); }, words);
  }
  json no_byte = good;
  no_byte["model"]["vocab"].erase("z");
  check_error([&] { tokenizer_of(no_byte); }, {"model.vocab", "0x7a", "no unk_token"});
  no_byte["model"]["vocab"]["<unk>"] = 'z';
  no_byte["model"]["unk_token"] = "<unk>";
  CHECK(tokenizer_of(no_byte)->encode("azzb") == Ids{'a', 'z', 'z', 'b'});
  no_byte["model"]["fuse_unk"] = true;
  CHECK(tokenizer_of(no_byte)->encode("azzb") == Ids{'a', 'z', 'b'});
}

TEST_CASE("Damaged bytes are an error or another tokenizer, and never a crash") {
  json content = small_json(hello);
  content["normalizer"] = {{"type", "NFC"}};
  content["added_tokens"] = {added(300, "<|a|>", {"special", "lstrip"}), added(301, "word", {"normalized"})};
  const std::string good = content.dump();
  int64_t refused = 0;
  constexpr int64_t count = 600;
  for (uint64_t i = 0; i < count; ++i) {
    std::string bad = good;
    const size_t at = random_bits(7, i) % bad.size();
    // The vocabulary is most of the file. Every other damage hits what is around it.
    const size_t place = i % 2 == 0 ? at : (at % 400 + bad.size() - 200) % bad.size();
    if (i % 3 == 0) bad[place] = static_cast<char>(random_bits(8, i) % 256);
    if (i % 3 == 1) bad.erase(place, 1 + random_bits(9, i) % 4);
    if (i % 3 == 2) bad.resize(place);
    try {
      const auto tokenizer = Tokenizer::from_files({{tokenizer_json_file, bad}}, "bad");
      tokenizer->decode(tokenizer->encode(random_text(i, 20)));
    } catch (const Error& e) {
      CHECK(std::string(e.what()).starts_with("bad"));
      ++refused;
    }
  }
  CHECK(refused > count / 2);
}
