#pragma once
// Writes a tokenizer as the files that Hugging Face's tokenizers read. Those of byte-level BPE are such files already.
// From a SentencePiece model they are made here. They give the same ids from the same text, with one exception: their
// tokenizers turn the text of a special token ("<s>") into its id, and SentencePiece does not.
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "data/tokenizer.h"

namespace strand::hf {

/// What an export holds of a tokenizer.
struct ExportedTokenizer {
  NamedFiles files;
  std::string reason;  ///< why there is no tokenizer.json; "" = there is one
};

/// The tokenizer's own files, and what AutoTokenizer needs besides.
ExportedTokenizer exported_tokenizer(const Tokenizer& tokenizer, int64_t longest_sequence);

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
