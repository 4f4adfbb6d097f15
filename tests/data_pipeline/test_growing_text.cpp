// Texts that grow token by token: the text of all tokens, nothing that a later token changes, and stop texts.
#include <fmt/format.h>

#include "../checkpoint/fixtures.h"
#include "../data_pipeline/small_corpus.h"
#include "core/random.h"
#include "data/growing_text.h"
#include "data/tokenizer_training.h"
#include "data/utf8.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;
using Ids = std::vector<int32_t>;

namespace {
std::unique_ptr<const Tokenizer> trained(TokenizerType type) {
  const TemporaryDirectory directory;
  put(directory / "corpus.txt", strand_test::small_document(1, 800));
  TokenizerTraining options;
  options.type = type;
  options.inputs = {directory / "corpus.txt"};
  options.output = directory / "tokenizer.json";
  options.vocab_size = 330;
  train_tokenizer(options);
  return Tokenizer::load(options.output);
}

const Tokenizer& tokenizer() {
  static const auto loaded = trained(TokenizerType::sentencepiece);
  return *loaded;
}

/// Ids as a model may draw them: any piece, BOS and EOS and bytes among them, and often a space.
Ids random_ids(uint64_t seed, size_t count) {
  const Ids space = tokenizer().encode(" ");
  Ids ids;
  for (uint64_t i = 0; i < count; ++i) {
    const double random = random_uniform(seed, i);
    if (random < 0.1 && !space.empty())
      ids.push_back(space[0]);
    else
      ids.push_back(static_cast<int32_t>(random * static_cast<double>(tokenizer().vocab_size())));
  }
  return ids;
}

/// Ids of the bytes of a text, one each.
Ids byte_ids(const std::string& text) {
  Ids ids;
  for (const char c : text)
    for (int32_t id = 0; id < tokenizer().vocab_size(); ++id)
      if (tokenizer().piece(id) == fmt::format("<0x{:02X}>", static_cast<unsigned char>(c))) ids.push_back(id);
  REQUIRE(ids.size() == text.size());
  return ids;
}

bool is_valid_begin(const std::string& whole, std::string_view begin) {
  return std::string_view(whole).substr(0, begin.size()) == begin;
}
}  // namespace

TEST_CASE("a growing text is the text of all its tokens, and what is settled stays") {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    const Ids before = random_ids(seed, seed % 5), added = random_ids(1000 + seed, 60);
    Ids all = before;
    all.insert(all.end(), added.begin(), added.end());
    const std::string whole = tokenizer().decode(all), prompt = tokenizer().decode(before);
    // A prompt that ends within a character has no text of its own to which the rest could be added.
    if (!is_valid_begin(whole, prompt)) continue;
    const std::string expected = whole.substr(prompt.size());
    GrowingText text(tokenizer(), before, {});
    std::string shown;
    INFO("seed " << seed);
    for (const int32_t id : added) {
      text.append(id);
      CHECK(is_valid_begin(std::string(text.settled()), shown));
      shown = text.settled();
      CHECK(is_valid_begin(expected, shown));
    }
    text.finish();
    CHECK(text.settled() == expected);
    CHECK_FALSE(text.is_stopped());
  }
}

TEST_CASE("a character whose bytes come one by one appears when it is whole") {
  GrowingText text(tokenizer(), tokenizer().encode("the"), {});
  const std::string smile = "\xF0\x9F\x98\x80";
  const Ids bytes = byte_ids(smile);
  for (size_t i = 0; i + 1 < bytes.size(); ++i) {
    text.append(bytes[i]);
    CHECK(text.settled().empty());
  }
  text.append(bytes.back());
  CHECK(text.settled() == smile);
  text.append(bytes[0]);
  CHECK(text.settled() == smile);
  text.finish();
  CHECK(text.settled() == smile + "\xEF\xBF\xBD");
}

TEST_CASE("a text ends exactly before a stop text, wherever the tokens end") {
  const std::string whole = "the model selects experts, which learn different things across layers";
  const Ids ids = tokenizer().encode(whole);
  int64_t inside = 0;
  for (size_t begin = 1; begin + 3 < whole.size(); ++begin) {
    for (const size_t length : {size_t{1}, size_t{2}, size_t{5}, size_t{13}}) {
      const std::string stop = whole.substr(begin, length);
      const std::string expected = whole.substr(0, whole.find(stop));
      GrowingText text(tokenizer(), {}, {"#never#", stop});
      for (const int32_t id : ids) {
        text.append(id);
        CHECK(is_valid_begin(expected, text.settled()));
        if (text.is_stopped()) break;
      }
      INFO("stop '" << stop << "'");
      REQUIRE(text.is_stopped());
      CHECK(text.settled() == expected);
      CHECK(text.stop() == stop);
      GrowingText words(tokenizer(), {}, {});
      for (const int32_t id : ids) {
        words.append(id);
        if (words.settled() == expected) ++inside;
      }
    }
  }
  CHECK(inside > 10);  // some of them begin where a token ends, most do not
}

TEST_CASE("the begin of a stop text is held back until it is none") {
  const Ids ids = byte_ids("a STOX STOP b");
  GrowingText text(tokenizer(), tokenizer().encode("x"), {"STOP"});
  std::vector<std::string> seen;
  for (const int32_t id : ids) {
    text.append(id);
    seen.emplace_back(text.settled());
  }
  const std::vector<std::string> expected = {"a",       "a ",      "a ",      "a ",      "a ",      "a STOX", "a STOX ",
                                             "a STOX ", "a STOX ", "a STOX ", "a STOX ", "a STOX ", "a STOX "};
  CHECK(seen == expected);
  CHECK(text.is_stopped());

  GrowingText unfinished(tokenizer(), tokenizer().encode("x"), {"STOP", "OX"});
  for (const int32_t id : byte_ids("a STO")) unfinished.append(id);
  CHECK(unfinished.settled() == "a ");
  unfinished.finish();
  CHECK(unfinished.settled() == "a STO");
  CHECK_FALSE(unfinished.is_stopped());
  CHECK_THROWS_WITH(GrowingText(tokenizer(), {}, {""}), Catch::Contains("empty"));
}

TEST_CASE("of several stop texts the one that is complete first ends the text, also at the very end") {
  const auto stopped_by = [](const std::string& text_of_bytes, const std::vector<std::string>& stops) {
    GrowingText text(tokenizer(), tokenizer().encode("x"), stops);
    for (const int32_t id : byte_ids(text_of_bytes)) text.append(id);
    text.finish();
    return text.is_stopped() ? text.stop() + "|" + std::string(text.settled()) : "";
  };
  CHECK(stopped_by("abcd", {"abcd", "bc"}) == "bc|a");
  CHECK(stopped_by("abcd", {"d", "cd"}) == "cd|ab");
  CHECK(stopped_by("abcd", {"abcd", "abcd"}) == "abcd|");
  CHECK(stopped_by("ab\xF0\x9F", {"\xEF\xBF\xBD"}) == "\xEF\xBF\xBD|ab");
  CHECK(stopped_by("abab!", {"ab!"}) == "ab!|ab");
}

TEST_CASE("both kinds of tokenizers show whole characters, each as soon as it is whole") {
  const std::vector<std::string> parts = {"the ", "router", " ", "\u00e9", "\u4e2d", "\U0001F600", "\n", "caf\u00e9"};
  for (const TokenizerType type : {TokenizerType::sentencepiece, TokenizerType::bpe_bytes}) {
    const auto model = trained(type);
    for (uint64_t seed = 0; seed < 30; ++seed) {
      std::string whole;
      for (uint64_t i = 0; i < 12; ++i) whole += parts[random_bits(seed, i) % parts.size()];
      GrowingText text(*model, {}, {});
      for (const int32_t id : model->encode(whole)) {
        text.append(id);
        CHECK(is_valid_begin(whole, text.settled()));
        CHECK(first_invalid_utf8(text.settled()) == text.settled().size());
      }
      CHECK(text.settled() == whole);  // nothing is held back once the last character is whole
      text.finish();
      CHECK(text.settled() == whole);
    }
  }
}

TEST_CASE("bytes that never become a character are shown once that is sure") {
  const auto model = trained(TokenizerType::bpe_bytes);
  const auto byte = [](int value) { return 2 + value; };
  GrowingText text(*model, model->encode("the "), {});
  const auto shown = [&](int value) {
    text.append(byte(value));
    return std::string(text.settled());
  };
  CHECK(shown('x') == "x");
  CHECK(shown(0xF0) == "x");
  CHECK(shown(0x9F) == "x");
  CHECK(shown('y') == "x\uFFFDy");
  CHECK(shown(0xE4) == "x\uFFFDy");
  text.finish();
  CHECK(text.settled() == "x\uFFFDy\uFFFD");
}
