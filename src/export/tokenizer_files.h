#pragma once
// A SentencePiece model as the files that Hugging Face's tokenizers read: the same ids from the same text.
//
// What differs by nature: their tokenizers turn the text of a special token ("<s>") into its id, SentencePiece does
// not.
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

/// Why Hugging Face's tokenizers would not give SentencePiece's ids from every text, whatever tokenizer.json said; ""
/// when they would.
std::string reason_against_tokenizer_json(const SentencePieceModel& model);

/// For a model without such a reason.
TokenizerFiles tokenizer_files(const SentencePieceModel& model, const SpecialTokens& special, int64_t longest_sequence);

/// The merges of a BPE model by rank, as pairs of pieces: for each piece in order of id every pair that makes it, its
/// own pairs by the ids of their parts; then all by descending score of the piece, stably. So merging by rank does what
/// SentencePiece does, which is to merge the pair whose piece has the highest score.
std::vector<std::pair<std::string, std::string>> merges_of(const SentencePieceModel& model);

}  // namespace strand::hf
