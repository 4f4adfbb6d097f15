#pragma once
// A byte-level BPE tokenizer in the tokenizer.json of Hugging Face. It gives the ids of their `tokenizers`:
//
//   text -> added tokens are cut out -> normalizer -> added tokens that are looked for after it -> pieces
//        (pre_tokenizer) -> merges of the bytes of each piece
#include <memory>

#include "data/bpe/added_tokens.h"
#include "data/bpe/letter_cuts.h"
#include "data/bpe/merges.h"
#include "data/bpe/normalizer.h"
#include "data/bpe/tokenizer_json.h"
#include "data/tokenizer.h"

namespace strand {

class BpeTokenizer final : public Tokenizer {
 public:
  /// `files` holds a tokenizer.json. The special tokens are those of a tokenizer_config.json, if there is one, and
  /// those of the post-processor.
  BpeTokenizer(const NamedFiles& files, const std::string& name);

  size_t find_cut(std::string_view text, size_t from) const override;
  std::string decode(std::span<const int32_t> ids) const override;
  int64_t vocab_size() const override { return static_cast<int64_t>(spellings_.size()); }
  const std::string& piece(int32_t id) const override;
  bool is_byte(int32_t id) const override;
  bool is_control(int32_t id) const override;
  TokenizerDescription description() const override { return json_; }
  std::string kind() const override { return "byte-level BPE tokenizer"; }

 private:
  class TextEncoder;
  void encode_block(const Block& block, std::vector<int32_t>& ids, std::vector<TokenSpan>* spans) const override;

  TokenizerJson json_;
  Normalizer normalizer_;
  AddedTokenFinder in_original_;    ///< added tokens that are looked for before the normalizer
  AddedTokenFinder in_normalized_;  ///< and after it
  std::vector<std::string> texts_;  ///< by id: the bytes that the token spells; "" = it spells none
  PieceEncoder pieces_;
  std::vector<std::string> spellings_;  ///< by id, added tokens included; "" = no token
  std::vector<bool> control_;           ///< by id
  std::vector<bool> added_;             ///< by id
  LetterCuts cuts_;
};

}  // namespace strand
