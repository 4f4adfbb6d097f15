#pragma once
// What the files of a tokenizer say, one struct for each kind. Those who write a tokenizer in another form (the
// exports) have one function for each.
#include <cstdint>
#include <variant>

#include "data/bpe/tokenizer_json.h"
#include "data/sentencepiece_model.h"

namespace strand {

using TokenizerDescription = std::variant<SentencePieceModel, TokenizerJson>;

/// Ids of special tokens; -1 = none.
struct SpecialTokens {
  int32_t unk = -1, bos = -1, eos = -1, pad = -1;
  bool begin_with_bos = false;  ///< texts begin with BOS
  bool end_with_eos = false;    ///< the post-processor puts EOS after each text, prompts among them
};

}  // namespace strand
