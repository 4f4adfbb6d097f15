#pragma once
// Writes a SentencePiece model as the files that Hugging Face's tokenizers read. They give the same ids from the same
// text, with one exception: their tokenizers turn the text of a special token ("<s>") into its id, and SentencePiece
// does not.
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "data/sentencepiece_model.h"

namespace strand::hf {

/// Ids of special tokens; -1 = none.
struct SpecialTokens {
  int32_t unk = -1, bos = -1, eos = -1, pad = -1;
};

struct TokenizerFiles {
  std::string tokenizer_json;
  std::string tokenizer_config_json;
};

/// The reason why no tokenizer.json makes Hugging Face's tokenizers give SentencePiece's ids from every text; "" when
/// there is one that does.
std::string reason_against_tokenizer_json(const SentencePieceModel& model);

/// The files for a model without such a reason.
TokenizerFiles tokenizer_files(const SentencePieceModel& model, const SpecialTokens& special, int64_t longest_sequence);

/// The merges of a BPE model by rank, as pairs of pieces. SentencePiece merges the pair whose piece has the highest
/// score, so the pairs are sorted by descending score of the piece that they make. Pairs of equal score are in the
/// order of the id of that piece, and pairs that make the same piece in the order of the ids of their parts.
std::vector<std::pair<std::string, std::string>> merges_of(const SentencePieceModel& model);

}  // namespace strand::hf
