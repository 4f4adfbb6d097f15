#pragma once
// The tokenizer.json of a byte-level BPE tokenizer (Hugging Face's `tokenizers`), read into what strand's own encoder
// needs. A part of the file that is not understood is refused by its key, because the ids would be others.
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/bpe/added_tokens.h"
#include "data/bpe/merges.h"
#include "data/bpe/normalizer.h"
#include "data/bpe/pre_tokenizer.h"

namespace strand {

struct TokenizerJson {
  std::vector<AddedToken> added;
  std::vector<NormalizerStep> normalizer;
  std::vector<SplitterStage> splitter;
  std::vector<std::string> spellings;  ///< of the model's tokens by id, such as "Ġthe"; "" = the model has no such id
  std::vector<Merge> merges;           ///< by rank
  PieceEncoder::Options options;
  std::vector<int32_t> before_text;  ///< what the post-processor puts before and after a text
  std::vector<int32_t> after_text;

  /// Throws Error that begins with `file` and names the key.
  static TokenizerJson parse(std::string_view text, const std::string& file);
};

}  // namespace strand
