// The exported tokenizer, replayed by a few lines of byte-pair merging, gives SentencePiece's ids; models that
// cannot be expressed are named, bytes that are no model refused. (Hugging Face's own reader: scripts/hf_parity.py.)
#include <sentencepiece_trainer.h>

#include <cmath>
#include <unordered_map>

#include "export/element_reader.h"
#include "export/hf_export.h"
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
      if (step["pattern"].contains("Regex")) {
        text = replaced(text, step["pattern"]["Regex"], step["content"]);
        continue;
      }
      const auto from = step["pattern"]["String"].get<std::string>(), to = step["content"].get<std::string>();
      for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
        text.replace(at, from.size(), to);
    }
    return text;
  }
  /// The two regular expressions that we write, done by hand.
  static std::string replaced(const std::string& text, const std::string& pattern, const std::string& content) {
    std::string out;
    if (pattern == " {2,}") {
      for (const char c : text)
        if (c != ' ' || out.empty() || out.back() != ' ') out += c;
      REQUIRE(content == " ");
      return out;
    }
    REQUIRE(pattern == "\\A +|[ " + space + "]+\\z");
    REQUIRE(content.empty());
    const size_t first = text.find_first_not_of(' ');
    out = first == std::string::npos ? "" : text.substr(first);
    for (bool more = true; more;) {
      more = false;
      for (const std::string& end : {std::string(" "), space}) {
        if (!out.ends_with(end)) continue;
        out.resize(out.size() - end.size());
        more = true;
      }
    }
    return out;
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

/// SentencePiece's own trainer, whose defaults differ from those of strand train-tokenizer.
std::unique_ptr<const Tokenizer> trained_with(const TemporaryDirectory& dir,
                                              std::unordered_map<std::string, std::string> options) {
  put(dir / "corpus.txt", strand_test::small_document(1, 2000));
  options.insert({{"input", dir / "corpus.txt"},
                  {"model_prefix", dir / "made"},
                  {"model_type", "bpe"},
                  {"vocab_size", "400"},
                  {"hard_vocab_limit", "false"},
                  {"minloglevel", "2"}});
  const auto status = sentencepiece::SentencePieceTrainer::Train(options);
  if (!status.ok()) FAIL(status.ToString());
  return Tokenizer::load(dir / "made.model");
}

hf::TokenizerFiles files_of(const Tokenizer& t) {
  return hf::tokenizer_files(std::get<SentencePieceModel>(t.description()), t.special(), 64);
}

/// A SentencePiece model by hand, with defaults as the format has them.
SentencePieceModel model_by_hand() {
  SentencePieceModel m;
  m.algorithm = SentencePieceModel::Algorithm::bpe;
  m.pieces = {{"<unk>", 0, PieceType::unknown}, {"a", -5}, {"b", -6}, {"ab", -2}, {"ba", -1}, {"aba", -3}};
  return m;
}
}  // namespace

TEST_CASE("The exported tokenizer gives SentencePiece's ids") {
  TemporaryDirectory dir;
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
                                    "\u2581",
                                    "the marker behind\u2581",
                                    " both \u2581 \u2581\u2581 ",
                                    "<0x0A> and <s"};
  for (uint64_t seed = 2; seed < 30; ++seed) texts.push_back(strand_test::small_document(seed, 1));
  // Random texts of the characters on which the two could differ.
  const std::vector<std::string> characters = {" ", " ",  "\u2581", "a",      "e",     "the",
                                               "1", "\n", "\t",     "\u00e9", "\u4f60"};
  for (uint64_t i = 0; i < 2000; ++i) {
    std::string text;
    for (uint64_t j = 0; j < 1 + i % 12; ++j) {
      const double random = random_uniform(hash_key(i, "text"), j);
      text += characters[static_cast<size_t>(random * static_cast<double>(characters.size()))];
    }
    texts.push_back(text);
  }
  using Options = std::unordered_map<std::string, std::string>;
  const std::vector<Options> kinds = {{{"remove_extra_whitespaces", "false"}},
                                      {{"remove_extra_whitespaces", "true"}},
                                      {{"remove_extra_whitespaces", "true"}, {"add_dummy_prefix", "false"}},
                                      {{"remove_extra_whitespaces", "false"}, {"add_dummy_prefix", "false"}}};
  for (Options options : kinds) {
    options["normalization_rule_name"] = "identity";
    options["byte_fallback"] = "true";
    const std::unique_ptr<const Tokenizer> owner_of_tokenizer = trained_with(dir, options);
    const Tokenizer& tokenizer = *owner_of_tokenizer;
    INFO(options["remove_extra_whitespaces"] << options["add_dummy_prefix"]);
    CHECK(hf::reason_against_tokenizer_json(SentencePieceModel::parse(tokenizer.files().at(sentencepiece_file), "m")) ==
          "");
    const Replayed replayed(files_of(tokenizer).tokenizer_json);
    for (const std::string& text : texts) {
      INFO('"' << text << '"');
      CHECK(replayed.encode(text) == tokenizer.encode(text));
    }
  }
}

TEST_CASE("A model that replaces characters is exported without tokenizer.json, which would give other ids") {
  TemporaryDirectory dir;
  const auto rules = GENERATE(std::string("nmt_nfkc"), std::string("nfkc"), std::string("nfkc_cf"));
  const std::unique_ptr<const Tokenizer> owner_of_tokenizer = trained_with(dir, {{"normalization_rule_name", rules}});
  const Tokenizer& tokenizer = *owner_of_tokenizer;
  Config config = small_config();
  config.model.vocab_size = tokenizer.vocab_size();
  const Checkpoint checkpoint(make_checkpoint(config, dir / "run", tokenizer.files().at(sentencepiece_file)));
  const hf::ExportSummary summary = hf::export_model(checkpoint, config, dir / "out");
  REQUIRE_FALSE(summary.caveats.empty());
  CHECK_THAT(summary.caveats.back(), Catch::Contains("no tokenizer.json") && Catch::Contains("replaces characters"));
  CHECK(summary.has_tokenizer);
  CHECK(get(dir / "out/tokenizer.model") == tokenizer.files().at(sentencepiece_file));
  CHECK(std::filesystem::exists(dir / "out/model.safetensors"));
  CHECK_FALSE(std::filesystem::exists(dir / "out/tokenizer.json"));
  CHECK_FALSE(std::filesystem::exists(dir / "out/tokenizer_config.json"));
  CHECK(read_json(dir / "out/config.json")["bos_token_id"] == 1);
}

TEST_CASE("tokenizer.json and tokenizer_config.json name the special tokens") {
  TemporaryDirectory dir;
  const hf::TokenizerFiles files = files_of(*small_tokenizer(dir));
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
  SentencePieceModel m = model_by_hand();
  m.add_dummy_prefix = false;
  m.remove_extra_whitespaces = false;
  const auto steps = [&] {
    json all = json::parse(hf::tokenizer_files(m, {.unk = 0}, 8).tokenizer_json);
    std::vector<std::string> types;
    for (const json& step : all["normalizer"]["normalizers"]) types.push_back(step["type"]);
    return types;
  };
  CHECK(steps() == std::vector<std::string>{"Replace"});
  m.add_dummy_prefix = true;
  CHECK(steps() == std::vector<std::string>{"Prepend", "Replace"});
  m.remove_extra_whitespaces = true;
  CHECK(steps() == std::vector<std::string>{"Replace", "Replace", "Prepend", "Replace"});
  const json all = json::parse(hf::tokenizer_files(m, {.unk = 0}, 8).tokenizer_json);
  CHECK(all["post_processor"].is_null());  // no BOS
}

TEST_CASE("What speaks against tokenizer.json") {
  const auto reason = [](const std::function<void(SentencePieceModel&)>& change) {
    SentencePieceModel m = model_by_hand();
    change(m);
    return hf::reason_against_tokenizer_json(m);
  };
  using Algorithm = SentencePieceModel::Algorithm;
  using Catch::Contains;
  CHECK(reason([](auto&) {}) == "");
  CHECK_THAT(reason([](auto& m) { m.algorithm = Algorithm::unigram; }), Contains("unigram"));
  CHECK_THAT(reason([](auto& m) { m.algorithm = Algorithm::word; }), Contains("words"));
  CHECK_THAT(reason([](auto& m) { m.pieces[4].type = PieceType::user_defined; }), Contains("user-defined"));
  CHECK_THAT(reason([](auto& m) { m.pieces[4].text = "a"; }), Contains("twice"));
  CHECK_THAT(reason([](auto& m) { m.whitespace_as_suffix = true; }), Contains("suffix"));
  CHECK_THAT(reason([](auto& m) { m.escape_whitespaces = false; }), Contains("escape_whitespaces"));
  CHECK_THAT(reason([](auto& m) { m.charsmap = "abcd"; }), Contains("replaces characters"));
  CHECK_THAT(reason([](auto& m) { m.pieces[4].score = NAN; }), Contains("no finite number"));
  // Of "ab" and "ba" with one score, SentencePiece takes the left one in "aba" and "bab"; ranks always take the same.
  CHECK_THAT(reason([](auto& m) { m.pieces[4].score = m.pieces[3].score; }), Contains("pieces 3 and 4"));
  CHECK(reason([](auto& m) { m.pieces[2].score = m.pieces[1].score; }) == "");  // single characters are not merged
  CHECK(reason([](auto& m) {
          m.pieces.push_back({space, -7});
          m.pieces.push_back({space + space, -1e9f});
          m.pieces.push_back({space + space + space, -1e9f});
        }) == "");
}

TEST_CASE("Bytes that are no SentencePiece model: an error at every cut, no crash") {
  TemporaryDirectory dir;
  const std::string bytes = small_tokenizer(dir)->files().at(sentencepiece_file);
  CHECK(SentencePieceModel::parse(bytes, "m").pieces.size() == 400);
  CHECK(SentencePieceModel::parse(bytes, "m").byte_fallback);
  int refused = 0;
  for (size_t cut = 0; cut < bytes.size(); ++cut)
    refused += !error_of([&] { SentencePieceModel::parse(std::string_view(bytes).substr(0, cut), "m"); }).empty();
  CHECK(refused > static_cast<int>(bytes.size()) / 2);  // the others end between two fields
  CHECK_THAT(error_of([] { SentencePieceModel::parse("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x", "m"); }),
             Catch::Contains("bytes where"));
  CHECK_THAT(error_of([] { SentencePieceModel::parse(std::string(12, '\xff'), "m"); }), Catch::Contains("endless"));
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
