// The exported tokenizer, replayed by a few lines of byte-pair merging, gives SentencePiece's ids; models that cannot
// be expressed and bytes that are no model are refused. (Hugging Face's own reader: scripts/hf_parity.py.)
#include <cmath>
#include <unordered_map>

#include "export/element_reader.h"
#include "export/tokenizer_files.h"
#include "models.h"
#include "small_tokenizer.h"

using namespace strand;
using namespace strand::test;
using nlohmann::json;

namespace {
const std::string space = "\u2581";

/// What tokenizer.json tells a reader to do, done as plainly as possible.
class Replayed {
 public:
  explicit Replayed(const std::string& text) : json_(json::parse(text)) {
    for (const auto& [piece, id] : json_["model"]["vocab"].items()) ids_[piece] = id;
    int rank = 0;
    for (const auto& merge : json_["model"]["merges"]) ranks_[merge.get<std::string>()] = rank++;
  }

  std::vector<int32_t> encode(const std::string& text) const {
    std::vector<std::string> parts = characters(normalized(text));
    for (;;) {
      size_t best = parts.size();
      int lowest = INT32_MAX;
      for (size_t i = 0; i + 1 < parts.size(); ++i) {
        const auto found = ranks_.find(parts[i] + " " + parts[i + 1]);
        if (found == ranks_.end() || found->second >= lowest) continue;
        lowest = found->second;
        best = i;
      }
      if (best == parts.size()) break;
      parts[best] += parts[best + 1];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    std::vector<int32_t> out;
    for (const std::string& part : parts) {
      const auto found = ids_.find(part);
      if (found != ids_.end()) {
        out.push_back(found->second);
        continue;
      }
      for (const char c : part) out.push_back(ids_.at(fmt::format("<0x{:02X}>", static_cast<unsigned char>(c))));
    }
    return out;
  }

 private:
  std::string normalized(std::string text) const {
    for (const json& step : json_["normalizer"]["normalizers"]) {
      if (step["type"] == "Prepend" && !text.empty()) text = step["prepend"].get<std::string>() + text;
      if (step["type"] != "Replace") continue;
      const auto from = step["pattern"]["String"].get<std::string>(), to = step["content"].get<std::string>();
      for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
        text.replace(at, from.size(), to);
    }
    return text;
  }
  static std::vector<std::string> characters(const std::string& text) {
    std::vector<std::string> out;
    for (const char c : text) {
      if ((static_cast<unsigned char>(c) & 0xC0) == 0x80 && !out.empty())
        out.back() += c;
      else
        out.emplace_back(1, c);
    }
    return out;
  }

  json json_;
  std::unordered_map<std::string, int32_t> ids_;
  std::unordered_map<std::string, int> ranks_;
};

hf::TokenizerFiles files_of(const Tokenizer& t) {
  return hf::tokenizer_files(hf::SentencePieceModel::parse(t.bytes(), t.name()),
                             {t.unk_id(), t.bos_id(), t.eos_id(), t.pad_id()}, t.name(), 64);
}

/// A SentencePiece model by hand, with defaults as the format has them.
hf::SentencePieceModel model_by_hand() {
  hf::SentencePieceModel m;
  m.algorithm = hf::SentencePieceModel::Algorithm::bpe;
  m.pieces = {{"<unk>", 0, hf::PieceType::unknown}, {"a", -5}, {"b", -6}, {"ab", -2}, {"ba", -1}, {"aba", -3}};
  return m;
}
}  // namespace

TEST_CASE("The exported tokenizer gives SentencePiece's ids") {
  TemporaryDirectory dir;
  const Tokenizer tokenizer = small_tokenizer(dir);
  const Replayed replayed(files_of(tokenizer).tokenizer_json);
  std::vector<std::string> texts = {"the router selects experts",
                                    " leading",
                                    "trailing ",
                                    "double  space",
                                    "   ",
                                    " ",
                                    "\n \n",
                                    "tabs\tand\r\nreturns",
                                    "2024 digits 1.5e-3",
                                    "unknown \u4f60\u597d \U0001F600 \u00fc",
                                    "\u2581 the marker itself",
                                    "<0x0A> and <s"};
  for (uint64_t seed = 2; seed < 30; ++seed) texts.push_back(strand_test::small_document(seed, 1));
  for (const std::string& text : texts) {
    INFO(text);
    CHECK(replayed.encode(text) == tokenizer.encode(text));
  }
}

TEST_CASE("tokenizer.json and tokenizer_config.json name the special tokens") {
  TemporaryDirectory dir;
  const hf::TokenizerFiles files = files_of(small_tokenizer(dir));
  const json tokenizer = json::parse(files.tokenizer_json), config = json::parse(files.tokenizer_config_json);
  REQUIRE(tokenizer["added_tokens"].size() == 3);
  CHECK(tokenizer["added_tokens"][2]["content"] == "</s>");
  CHECK(tokenizer["added_tokens"][2]["id"] == 2);
  CHECK(tokenizer["post_processor"]["special_tokens"]["<s>"]["ids"] == json::array({1}));
  CHECK(tokenizer["model"]["vocab"].size() == 400);
  CHECK(tokenizer["model"]["byte_fallback"] == true);
  CHECK(config["bos_token"] == "<s>");
  CHECK(config["pad_token"].is_null());
  CHECK(config["add_bos_token"] == true);
  CHECK(config["model_max_length"] == 64);
}

TEST_CASE("Merges: by score of what they make, pairs of one piece by their ids") {
  using Merges = std::vector<std::pair<std::string, std::string>>;
  // Scores: ba -1, ab -2, aba -3 (made of a + ba and of ab + a; ids 1, 4 before 3, 1).
  CHECK(hf::merges_of(model_by_hand()) == Merges{{"b", "a"}, {"a", "b"}, {"a", "ba"}, {"ab", "a"}});
}

TEST_CASE("The normalizer follows the model's own settings") {
  hf::SentencePieceModel m = model_by_hand();
  m.add_dummy_prefix = false;
  m.remove_extra_whitespaces = false;
  const auto steps = [&] {
    json all = json::parse(hf::tokenizer_files(m, {.unk = 0}, "m", 8).tokenizer_json);
    std::vector<std::string> types;
    for (const json& step : all["normalizer"]["normalizers"]) types.push_back(step["type"]);
    return types;
  };
  CHECK(steps() == std::vector<std::string>{"Replace"});
  m.add_dummy_prefix = true;
  CHECK(steps() == std::vector<std::string>{"Prepend", "Replace"});
  m.remove_extra_whitespaces = true;
  CHECK(steps() == std::vector<std::string>{"Replace", "Replace", "Prepend", "Replace"});
  m.charsmap = "abcd";
  CHECK(steps().front() == "Precompiled");
  const json all = json::parse(hf::tokenizer_files(m, {.unk = 0}, "m", 8).tokenizer_json);
  CHECK(all["normalizer"]["normalizers"][0]["precompiled_charsmap"] == "YWJjZA==");
  CHECK(all["post_processor"].is_null());  // no BOS
}

TEST_CASE("Tokenizers that cannot be expressed are refused") {
  const auto refusal = [](const std::function<void(hf::SentencePieceModel&)>& spoil) {
    hf::SentencePieceModel m = model_by_hand();
    spoil(m);
    return error_of([&] { hf::tokenizer_files(m, {.unk = 0}, "odd.model", 8); });
  };
  using Catch::Contains;
  CHECK(refusal([](auto&) {}) == "");
  CHECK_THAT(refusal([](auto& m) { m.algorithm = hf::SentencePieceModel::Algorithm::unigram; }),
             Contains("odd.model") && Contains("unigram"));
  CHECK_THAT(refusal([](auto& m) { m.pieces[4].type = hf::PieceType::user_defined; }), Contains("user-defined"));
  CHECK_THAT(refusal([](auto& m) { m.pieces[4].text = "a"; }), Contains("twice"));
  CHECK_THAT(refusal([](auto& m) { m.whitespace_as_suffix = true; }), Contains("suffix"));
}

TEST_CASE("Bytes that are no SentencePiece model: an error at every cut, no crash") {
  TemporaryDirectory dir;
  const std::string bytes = small_tokenizer(dir).bytes();
  CHECK(hf::SentencePieceModel::parse(bytes, "m").pieces.size() == 400);
  CHECK(hf::SentencePieceModel::parse(bytes, "m").byte_fallback);
  int refused = 0;
  for (size_t cut = 0; cut < bytes.size(); ++cut)
    refused += !error_of([&] { hf::SentencePieceModel::parse(std::string_view(bytes).substr(0, cut), "m"); }).empty();
  CHECK(refused > static_cast<int>(bytes.size()) / 2);  // the others end between two fields
  CHECK_THAT(error_of([] { hf::SentencePieceModel::parse("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x", "m"); }),
             Catch::Contains("bytes where"));
  CHECK_THAT(error_of([] { hf::SentencePieceModel::parse(std::string(12, '\xff'), "m"); }), Catch::Contains("endless"));
}

TEST_CASE("Half precision, every value") {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const int exponent = static_cast<int>((bits >> 10) & 31), fraction = static_cast<int>(bits & 1023);
    const double sign = (bits & 0x8000u) != 0 ? -1.0 : 1.0;
    const float got = hf::from_f16(static_cast<uint16_t>(bits));
    if (exponent == 31) {
      CHECK((fraction == 0 ? std::isinf(got) : std::isnan(got)));
      continue;
    }
    const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    if (static_cast<double>(got) != sign * magnitude) FAIL("f16 bits " << bits << " gave " << got);
  }
}
