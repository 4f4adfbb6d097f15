// Text that is shown while its tokens come is the text of all tokens, in whole characters.
#include <string>
#include <vector>

#include "core/random.h"
#include "data/text_stream.h"
#include "data/tokenizer_training.h"
#include "data/utf8.h"
#include "files.h"
#include "small_corpus.h"

using namespace strand;
using namespace strand_test;

namespace {
std::unique_ptr<const Tokenizer> trained(const TemporaryDirectory& dir, TokenizerType type) {
  write_file(dir / "corpus.txt", small_document(1, 1000));
  TokenizerTraining options;
  options.type = type;
  options.inputs = {dir / "corpus.txt"};
  options.output = dir / "tokenizer.json";
  options.vocab_size = 330;
  train_tokenizer(options);
  return Tokenizer::load(options.output);
}
}  // namespace

TEST_CASE("a text that grows is shown in whole characters, each as soon as it is whole") {
  const TemporaryDirectory dir;
  const std::vector<std::string> parts = {"the ", "router", " ", "\u00e9", "\u4e2d", "\U0001F600", "\n", "caf\u00e9"};
  for (const TokenizerType type : {TokenizerType::sentencepiece, TokenizerType::bpe_bytes}) {
    const auto tokenizer = trained(dir, type);
    for (uint64_t seed = 0; seed < 30; ++seed) {
      std::string text;
      for (uint64_t i = 0; i < 12; ++i) text += parts[random_bits(seed, i) % parts.size()];
      const std::vector<int32_t> ids = tokenizer->encode(text);
      TextStream stream(*tokenizer, {});
      std::string shown;
      for (const int32_t id : ids) {
        const std::string part = stream.add(id);
        CHECK(first_invalid_utf8(part) == part.size());
        CHECK(part.find("\uFFFD") == std::string::npos);
        shown += part;
        CHECK(text.starts_with(shown));
      }
      CHECK(shown == text);  // nothing is held back once the last character is whole
      CHECK(stream.finish().empty());
    }
  }
}

TEST_CASE("bytes that never become a character are shown at the end, and a prompt at the begin") {
  const TemporaryDirectory dir;
  const auto tokenizer = trained(dir, TokenizerType::bpe_bytes);
  const auto byte = [](int value) { return 2 + value; };
  TextStream stream(*tokenizer, tokenizer->encode("the "));
  CHECK(stream.add(byte('x')) == "the x");
  CHECK(stream.add(byte(0xF0)).empty());
  CHECK(stream.add(byte(0x9F)).empty());
  CHECK(stream.add(byte('y')) == "\uFFFDy");
  CHECK(stream.add(byte(0xE4)).empty());
  CHECK(stream.finish() == "\uFFFD");
}
