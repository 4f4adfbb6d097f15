#pragma once
// A SentencePiece model of 400 pieces, trained on a small text.
#include "../checkpoint/fixtures.h"
#include "../data_pipeline/small_corpus.h"
#include "data/tokenizer.h"
#include "data/tokenizer_training.h"

namespace strand::test {

inline std::unique_ptr<const Tokenizer> small_tokenizer(const TemporaryDirectory& dir) {
  put(dir / "corpus.txt", strand_test::small_document(1, 2000));
  TokenizerTraining options;
  options.inputs = {dir / "corpus.txt"};
  options.output = dir / "small.model";
  options.vocab_size = 400;
  train_tokenizer(options);
  return Tokenizer::load(options.output);
}

}  // namespace strand::test
