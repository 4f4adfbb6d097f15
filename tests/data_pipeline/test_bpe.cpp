// Byte-level BPE: what is expected is worked out by hand, or by a naive merge loop written here.
// scripts/tokenizer_parity.py holds the same code against Hugging Face's tokenizers.
#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bpe_json.h"
#include "core/random.h"
#include "data/bpe/byte_alphabet.h"
#include "data/bpe/merges.h"
#include "data/text_bytes.h"
#include "data/tokenizer.h"
#include "data/utf8.h"
#include "files.h"

using namespace strand;
using namespace strand_test;
using nlohmann::json;

namespace {
std::vector<std::pair<int32_t, std::string>> with_texts(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<std::pair<int32_t, std::string>> out;
  for (const TokenSpan& span : tokenizer.encode_with_spans(text))
    out.emplace_back(span.id, text.substr(span.bytes.begin, span.bytes.end - span.bytes.begin));
  return out;
}
using Tokens = std::vector<std::pair<int32_t, std::string>>;
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
  const std::vector<int32_t> by_id = text_bytes_by_id(*tokenizer);
  CHECK(text_bytes(Ids{hello_id, 300, 301, 305}, by_id) ==
        static_cast<int64_t>(tokenizer->decode(Ids{hello_id, 300, 301, 305}).size()));
}

// What tokenizers 0.23.3 gives: it looks for the next token behind the content of the last one, not behind the white
// space that this one took.
TEST_CASE("Added tokens within the white space that another one takes are found again") {
  json content = small_json(hello);
  content["added_tokens"] = {added(303, "<r>", {"rstrip"}),
                             added(304, "<b>", {"lstrip", "rstrip"}),
                             added(305, "\n\n"),
                             added(306, "  "),
                             added(307, " lw", {"lstrip"}),
                             added(308, "\t", {"rstrip"})};
  const auto tokenizer = tokenizer_of(content);
  const auto check = [&](const std::string& text, const Tokens& expected) {
    INFO(text);
    CHECK(with_texts(*tokenizer, text) == expected);
  };
  check("a<r>\n\na", {{'a', "a"}, {303, "<r>\n\n"}, {305, "\n\n"}, {'a', "a"}});
  check("a<r> \n\n a", {{'a', "a"}, {303, "<r> \n\n "}, {305, "\n\n"}, {' ', " "}, {'a', "a"}});
  check("a<r> \n\n <b> \n\n a",
        {{'a', "a"}, {303, "<r> \n\n "}, {305, "\n\n"}, {304, " <b> \n\n "}, {305, "\n\n"}, {' ', " "}, {'a', "a"}});
  check("a<r> lw", {{'a', "a"}, {303, "<r> "}, {307, "lw"}});
  check("a<r>\t  a", {{'a', "a"}, {303, "<r>\t  "}, {308, "\t  "}, {306, "  "}, {'a', "a"}});
  check("<r> \n\n \n\n", {{303, "<r> \n\n \n\n"}, {305, "\n\n"}, {' ', " "}, {305, "\n\n"}});
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

TEST_CASE("Byte-level text survives, and bytes that are no text become U+FFFD") {
  const auto tokenizer = tokenizer_of(small_json(hello));
  const std::vector<int32_t> by_id = text_bytes_by_id(*tokenizer);
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const std::string text = random_text(seed, 60);
    CHECK(tokenizer->decode(tokenizer->encode(text)) == text);
    CHECK(text_bytes(tokenizer->encode(text), by_id) == static_cast<int64_t>(text.size()));
  }
  CHECK(tokenizer->decode(Ids{0xF0, 0x9F, 0x98}) == "\uFFFD");
  CHECK(tokenizer->decode(Ids{0xF0, 0x9F, 'a', 0xFF, 0xC3}) == "\uFFFDa\uFFFD\uFFFD");
  check_error([&] { tokenizer->decode(Ids{264}); }, {"dir/tokenizer.json", "264"});
  check_error([&] { tokenizer->decode(Ids{-1}); }, {"-1"});
  check_error([&] { tokenizer->encode("ab\xFF"); }, {"dir/tokenizer.json", "not UTF-8 at byte 2"});
}

// Within the vocabulary, "\u00e9" is the spelling of the byte 0xE9. As an added token it is that letter.
TEST_CASE("An added token is its text, also where the vocabulary spells a byte so") {
  json content = small_json(hello);
  REQUIRE(tokenizer_of(content)->decode(Ids{0xE9}) == "\uFFFD");
  content["added_tokens"] = {added(0xE9, "\u00e9")};
  const auto tokenizer = tokenizer_of(content);
  CHECK(tokenizer->encode("a\u00e9") == Ids{'a', 0xE9});
  CHECK(tokenizer->decode(Ids{'a', 0xE9}) == "a\u00e9");
  CHECK(text_bytes(Ids{'a', 0xE9}, text_bytes_by_id(*tokenizer)) == 3);
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
