// SentencePiece's words, as they reach a user.
#include "data/sentencepiece_reason.h"
#include "tests/catch.h"

using namespace strand;

TEST_CASE("Reasons come without source files and foreign options") {
  CHECK(sentencepiece_reason("Internal: ./src/sentencepiece_processor.cc(232) [model_proto->ParseFromArray(a[0], b)] ")
            .empty());
  CHECK(sentencepiece_reason("Not found: \"x.model\": No such file or directory Error #2") ==
        "\"x.model\": No such file or directory Error #2");
  CHECK(sentencepiece_reason("Internal: src/trainer_interface.cc(1) [!a.empty()] Input corpus is too small. "
                             "Set a larger --input_sentence_size.") == "Input corpus is too small");
}

TEST_CASE("A vocabulary that does not fit the text says what would") {
  CHECK(sentencepiece_training_reason(
            "Internal: ./src/trainer_interface.cc(660) [(trainer_spec_.vocab_size()) == (model_proto->pieces_size())] "
            "Vocabulary size too high (2000). Please set it to a value <= 301.") ==
        "the text gives 301 pieces at most; ask for fewer, or give more text");
  const std::string few = sentencepiece_training_reason(
      "Internal: ./src/trainer_interface.cc(580) [(static_cast<int>(required_chars_.size() + meta_pieces_.size())) <= "
      "(trainer_spec_.vocab_size())] Vocabulary size is smaller than required_chars. 300 vs 3260. Increase vocab_size "
      "or "
      "decrease character_coverage with --character_coverage option.");
  CHECK(few.find("3260 pieces") != few.npos);
  CHECK(few.find("--") == few.npos);
}
