// tokenizer.json and tokenizer_config.json: which tokens are special, and what is refused by its key.
#include "bpe_json.h"
#include "data/describe.h"
#include "files.h"

using namespace strand;
using namespace strand_test;
using nlohmann::json;

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
  SECTION("so does add_eos_token, alone or beside it") {
    const json names = {{"bos_token", "<bos>"}, {"eos_token", "<eos>"}};
    json config = names;
    CHECK_FALSE(tokenizer_of(content, config)->special().end_with_eos);
    config["add_eos_token"] = true;
    CHECK(tokenizer_of(content, config)->special().end_with_eos);
    CHECK_FALSE(tokenizer_of(content, config)->begins_with_bos());
    config["add_bos_token"] = true;
    CHECK(tokenizer_of(content, config)->special().end_with_eos);
    CHECK(tokenizer_of(content, config)->begins_with_bos());
    config["add_eos_token"] = false;
    CHECK_FALSE(tokenizer_of(content, config)->special().end_with_eos);
    CHECK(tokenizer_of(content, config)->begins_with_bos());
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
  // LLaMA-2 and Mixtral: in the files of transformers 4 and 5.
  json metaspace = good, spaces_replaced = good;
  metaspace["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "first"}};
  spaces_replaced["pre_tokenizer"] = nullptr;
  spaces_replaced["model"]["byte_fallback"] = true;
  for (const json& file : {metaspace, spaces_replaced})
    check_error([&] { tokenizer_of(file); }, {"dir/tokenizer.json: ", "of a SentencePiece model", "tokenizer.model"});
  json no_byte = good;
  no_byte["model"]["vocab"].erase("z");
  check_error([&] { tokenizer_of(no_byte); }, {"model.vocab", "0x7a", "no unk_token"});
  no_byte["model"]["vocab"]["<unk>"] = 'z';
  no_byte["model"]["unk_token"] = "<unk>";
  CHECK(tokenizer_of(no_byte)->encode("azzb") == Ids{'a', 'z', 'z', 'b'});
  no_byte["model"]["fuse_unk"] = true;
  CHECK(tokenizer_of(no_byte)->encode("azzb") == Ids{'a', 'z', 'b'});
  CHECK(tokenizer_of(no_byte)->encode("zazzbz") == Ids{'z', 'a', 'z', 'b', 'z'});  // only neighbours become one
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
