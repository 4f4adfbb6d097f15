// Tokenizers: training is deterministic and gives the LLaMA-2 kind of model, texts survive the round trip, cutting at
// newlines changes no id, bad models are refused. With STRAND_TEST_TOKENIZERS (a folder with llama2.model and
// mistral.model) the real ones are held against ids that were published for them.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "data/describe.h"
#include "data/text_bytes.h"
#include "data/tokenizer.h"
#include "data/tokenizer_training.h"
#include "files.h"
#include "small_corpus.h"

using namespace strand;
using namespace strand_test;

namespace {

TokenizerTraining small_training(const TemporaryDirectory& dir, const std::string& output) {
  TokenizerTraining options;
  options.inputs = {dir / "corpus.txt"};
  options.output = dir / output;
  options.vocab_size = 400;
  return options;
}

std::unique_ptr<const Tokenizer> train_small(const TemporaryDirectory& dir) {
  write_file(dir / "corpus.txt", small_document(1, 3000));
  const TokenizerTraining options = small_training(dir, "small.model");
  train_tokenizer(options);
  return Tokenizer::load(options.output);
}

const std::vector<std::string> hard_texts = {"the router selects experts",
                                             " leading",
                                             "trailing ",
                                             "double  space",
                                             "\n",
                                             "\n\n\n",
                                             " \n ",
                                             "a\nb",
                                             "a \n b",
                                             "a\n  b\n",
                                             "tabs\tand\r\nreturns",
                                             "2024 digits 1.5e-3",
                                             "unknown \u4f60\u597d \U0001F600 \u00fc",
                                             "\u2581 the marker itself",
                                             std::string("nul\0byte", 8)};

// A long text of all of them, in an order that brings every two together.
std::string hard_long_text() {
  std::string text;
  for (const std::string& a : hard_texts) {
    for (const std::string& b : hard_texts) text += a + b;
  }
  return text + text + text + text;
}

std::vector<std::string> pieces(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<std::string> result;
  for (const int32_t id : tokenizer.encode(text)) result.push_back(tokenizer.piece(id));
  return result;
}

using Pieces = std::vector<std::string>;

}  // namespace

TEST_CASE("a trained model is of the LLaMA-2 kind") {
  const TemporaryDirectory dir;
  const std::unique_ptr<const Tokenizer> owner_of_tokenizer = train_small(dir);
  const Tokenizer& tokenizer = *owner_of_tokenizer;
  CHECK(tokenizer.vocab_size() == 400);
  CHECK(tokenizer.special().unk == 0);
  CHECK(tokenizer.bos_id() == 1);
  CHECK(tokenizer.eos_id() == 2);
  CHECK(tokenizer.special().pad == -1);
  CHECK(tokenizer.piece(3) == "<0x00>");
  CHECK(tokenizer.piece(258) == "<0xFF>");
  CHECK(tokenizer.is_byte(258));
  CHECK(!tokenizer.is_byte(259));
  CHECK(tokenizer.is_control(1));
  CHECK(pieces(tokenizer, "the experts") == Pieces{"\u2581the", "\u2581experts"});
  CHECK(pieces(tokenizer, "12\n") == Pieces{"\u2581", "1", "2", "<0x0A>"});  // digits one by one, newline as a byte
  CHECK(dir.entries() == 2);
}

TEST_CASE("training is deterministic") {
  const TemporaryDirectory dir;
  write_file(dir / "corpus.txt", small_document(1, 3000));
  TokenizerTraining options = small_training(dir, "a.model");
  options.sample_bytes = 50000;  // less than the text: the draw matters
  const TokenizerTrainingSummary summary = train_tokenizer(options);
  CHECK(summary.documents == 1);
  CHECK(summary.bytes == small_document(1, 3000).size());
  CHECK(summary.sampled_bytes <= 50000);
  CHECK(summary.sampled_bytes > 45000);
  options.output = dir / "b.model";
  train_tokenizer(options);
  CHECK(read_file(dir / "a.model") == read_file(dir / "b.model"));
}

TEST_CASE("the sample is drawn from the whole text") {
  // The second half is written in other letters; a prefix of the text would not teach them.
  const TemporaryDirectory dir;
  std::string other = small_document(2, 3000);
  for (char& c : other) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  write_file(dir / "corpus.txt", small_document(1, 3000) + other);
  TokenizerTraining options = small_training(dir, "a.model");
  options.vocab_size = 600;
  options.sample_bytes = 50000;
  train_tokenizer(options);
  const std::unique_ptr<const Tokenizer> owner_of_tokenizer = Tokenizer::load(options.output);
  const Tokenizer& tokenizer = *owner_of_tokenizer;
  CHECK(pieces(tokenizer, "the THE") == Pieces{"\u2581the", "\u2581THE"});
}

TEST_CASE("training on nothing or too little is refused and leaves nothing") {
  const TemporaryDirectory dir;
  TokenizerTraining options = small_training(dir, "a.model");
  check_error([&] { train_tokenizer(options); }, {"corpus.txt"});
  write_file(dir / "corpus.txt", "\n\n");
  check_error([&] { train_tokenizer(options); }, {"no text"});
  write_file(dir / "corpus.txt", "tiny");
  check_error([&] { train_tokenizer(options); }, {"400 pieces", "4 bytes"});
  options.vocab_size = 259;
  check_error([&] { train_tokenizer(options); }, {"259"});
  CHECK(dir.entries() == 1);
}

TEST_CASE("every text survives the round trip") {
  const TemporaryDirectory dir;
  const std::unique_ptr<const Tokenizer> owner_of_tokenizer = train_small(dir);
  const Tokenizer& tokenizer = *owner_of_tokenizer;
  for (const std::string& text : hard_texts) {
    if (text.find("\u2581") != std::string::npos) continue;  // SentencePiece writes spaces as this character
    CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
  }
  CHECK(tokenizer.encode("").empty());
  CHECK(tokenizer.decode({}).empty());
  const std::vector<int32_t> with_specials = {1, 2};
  CHECK(tokenizer.decode(with_specials).empty());
}

namespace {
// The ids of SentencePiece without any cut: a text without newlines is never cut, so each newline is written as a
// character that no model knows (private use, three byte pieces), and its three ids become the newline's one
// afterwards.
std::vector<int32_t> encode_uncut(const Tokenizer& tokenizer, const std::string& text) {
  std::string disguised;
  for (const char c : text) disguised += c == '\n' ? std::string("\uE000") : std::string(1, c);
  std::vector<int32_t> stand_in = tokenizer.encode("\uE000");
  stand_in.erase(stand_in.begin());
  REQUIRE((stand_in.size() == 3 && tokenizer.is_byte(stand_in[0]) && tokenizer.is_byte(stand_in[2])));
  const int32_t newline = tokenizer.encode("\n").back();
  std::vector<int32_t> ids = tokenizer.encode(disguised), result;
  for (size_t i = 0; i < ids.size(); ++i) {
    const bool is_newline = i + 3 <= ids.size() && std::equal(stand_in.begin(), stand_in.end(), &ids[i]);
    result.push_back(is_newline ? newline : ids[i]);
    if (is_newline) i += 2;
  }
  return result;
}

void check_cutting(const Tokenizer& tokenizer) {
  const std::string text = hard_long_text();
  const std::vector<int32_t> expected = encode_uncut(tokenizer, text);
  CHECK((tokenizer.encode(text) == expected));

  // And in two parts, at each of the first newlines.
  int checked = 0;
  for (size_t cut = text.find('\n', 1); cut != std::string::npos && checked < 50;
       cut = text.find('\n', cut + 1), ++checked) {
    std::vector<int32_t> ids;
    tokenizer.encode(std::string_view(text).substr(0, cut), ids, TextPosition::start);
    tokenizer.encode(std::string_view(text).substr(cut), ids, TextPosition::continuation);
    REQUIRE(ids == expected);
  }
  CHECK(checked == 50);
}
}  // namespace

TEST_CASE("tokens stand for the bytes of their text, and for the space that is put before it") {
  const TemporaryDirectory dir;
  const std::unique_ptr<const Tokenizer> tokenizer = train_small(dir);
  const std::vector<int32_t> by_id = text_bytes_by_id(*tokenizer);
  REQUIRE(by_id.size() == 400);
  CHECK(by_id[1] == 0);    // BOS
  CHECK(by_id[258] == 1);  // <0xFF>
  for (const std::string& text : hard_texts) {
    INFO(text);
    if (text.find("\u2581") != std::string::npos) continue;  // decoded to a space, as in every such tokenizer
    std::vector<int32_t> targets = tokenizer->encode(text);
    targets.insert(targets.end(), {tokenizer->eos_id(), -1, 1000});  // and what is no text
    CHECK(text_bytes(targets, by_id) == static_cast<int64_t>(text.size()) + 1);
  }
  // 8 tokens of ln 2 nats each are 8 bits; over 16 bytes that is half a bit a byte.
  CHECK(bits_per_byte(std::log(2.0), 8, 16) == Approx(0.5));
}

TEST_CASE("cutting a text before newlines changes no id") {
  const TemporaryDirectory dir;
  CHECK(hard_long_text().size() > 16384);  // or encode() would not cut
  check_cutting(*train_small(dir));
}

TEST_CASE("ids outside the vocabulary are refused") {
  const TemporaryDirectory dir;
  const std::unique_ptr<const Tokenizer> owner_of_tokenizer = train_small(dir);
  const Tokenizer& tokenizer = *owner_of_tokenizer;
  for (const int32_t id : {-1, 400, INT32_MAX}) {
    const std::vector<int32_t> ids = {5, id};
    check_error([&] { tokenizer.decode(ids); }, {"small.model", std::to_string(id), "400"});
    check_error([&] { tokenizer.piece(id); }, {"small.model", std::to_string(id)});
  }
}

TEST_CASE("files that are no models are refused") {
  const TemporaryDirectory dir;
  const std::unique_ptr<const Tokenizer> owner_of_tokenizer = train_small(dir);
  const Tokenizer& tokenizer = *owner_of_tokenizer;
  const std::string whole = read_file(dir / "small.model");
  CHECK(tokenizer.files().at(sentencepiece_file) == whole);
  check_error([&] { Tokenizer::load(dir / "none.model"); }, {"none.model", "No such file"});
  const auto check = [&](const std::string& bytes) {
    write_file(dir / "bad.model", bytes);
    check_error([&] { Tokenizer::load(dir / "bad.model"); }, {"bad.model"});
  };
  check("");
  check("this is not a model");
  check(std::string(1000, '\0'));
  check(std::string(1000, '\xFF'));
  check(whole.substr(0, 1));
  check(whole.substr(0, whole.size() / 2 + 1));
  check("\x0A\xFF\xFF\xFF\xFF\x7F" + whole);  // a first piece that claims 34 GB
}

TEST_CASE("a model describes itself") {
  const TemporaryDirectory dir;
  train_small(dir);
  const std::string text = describe_tokenizer(dir / "small.model");
  for (const std::string word : {"pieces: 400", "256 bytes", "bos 1", "eos 2", "pad -1"})
    CHECK_THAT(text, Catch::Contains(word));
}

TEST_CASE("the real models of LLaMA-2 and Mistral") {
  const char* folder = std::getenv("STRAND_TEST_TOKENIZERS");
  if (folder == nullptr) {
    WARN(
        "STRAND_TEST_TOKENIZERS is not set (a folder with llama2.model and mistral.model): real models are not tested");
    return;
  }
  for (const std::string name : {"llama2.model", "mistral.model"}) {
    const std::unique_ptr<const Tokenizer> owner_of_tokenizer = Tokenizer::load(std::string(folder) + "/" + name);
    const Tokenizer& tokenizer = *owner_of_tokenizer;
    CHECK(tokenizer.vocab_size() == 32000);
    CHECK(tokenizer.bos_id() == 1);
    CHECK(tokenizer.eos_id() == 2);
    check_cutting(tokenizer);
  }
  const std::unique_ptr<const Tokenizer> owner_of_llama = Tokenizer::load(std::string(folder) + "/llama2.model");
  const Tokenizer& llama = *owner_of_llama;
  // The example of LLaMA-2's tokenizer that its users quote: "Hello world" is 15043 3186.
  CHECK(llama.encode("Hello world") == std::vector<int32_t>{15043, 3186});
  CHECK(llama.piece(259) == "\u2581\u2581");
  CHECK(llama.piece(13) == "<0x0A>");
}
