#pragma once
// A SentencePiece model as a Tokenizer, with the library of SentencePiece.
#include <memory>

#include "data/tokenizer.h"

namespace strand {

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(const NamedFiles& files, const std::string& name);
  ~SentencePieceTokenizer() override;

  size_t find_cut(std::string_view text, size_t from) const override;
  std::string decode(std::span<const int32_t> ids) const override;
  int64_t vocab_size() const override;
  const std::string& piece(int32_t id) const override;
  bool is_byte(int32_t id) const override;
  bool is_control(int32_t id) const override;
  TokenizerDescription description() const override;
  std::string kind() const override { return "SentencePiece model"; }

 private:
  void encode_block(const Block& block, std::vector<int32_t>& ids, std::vector<TokenSpan>* spans) const override;

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace strand
