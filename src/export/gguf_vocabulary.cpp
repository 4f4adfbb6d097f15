#include "export/gguf_vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

#include "core/error.h"

namespace strand::gguf {

namespace {
/// What SentencePiece does with a text that llama.cpp does not.
std::vector<std::string> differences(const SentencePieceModel& model) {
  std::vector<std::string> out;
  if (!model.charsmap.empty())
    out.push_back("the model replaces characters before it looks for pieces (normalization_rule_name is not identity)");
  if (model.remove_extra_whitespaces) out.push_back("the model removes spaces (remove_extra_whitespaces)");
  if (model.whitespace_as_suffix) out.push_back("the model has treat_whitespace_as_suffix");
  if (!model.escape_whitespaces) out.push_back("the model has escape_whitespaces: false");
  if (!model.byte_fallback)
    out.push_back("the model has no byte_fallback, and llama.cpp fails at a character without a piece");
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const Piece& piece = model.pieces[id];
    if (piece.type != PieceType::user_defined && piece.type != PieceType::unused) continue;
    out.push_back(fmt::format("piece {} (\"{}\") is user-defined or unused", id, piece.text));
    break;
  }
  return out;
}

void add_special(Metadata& out, const char* key, int32_t id) {
  if (id >= 0) out.add_u32(key, static_cast<uint32_t>(id));
}
}  // namespace

std::string reason_against_vocabulary(const SentencePieceModel& model) {
  return model.algorithm == SentencePieceModel::Algorithm::bpe ? "" : "is no model of type BPE";
}

void add_special_tokens(const SpecialTokens& special, Metadata& out) {
  add_special(out, "tokenizer.ggml.bos_token_id", special.bos);
  add_special(out, "tokenizer.ggml.eos_token_id", special.eos);
  add_special(out, "tokenizer.ggml.unknown_token_id", special.unk);
  add_special(out, "tokenizer.ggml.padding_token_id", special.pad);
  out.add_bool("tokenizer.ggml.add_bos_token", special.begin_with_bos);  // as our training data has it
  out.add_bool("tokenizer.ggml.add_eos_token", special.end_with_eos);
}

void pad_tokens(int64_t rows, std::vector<std::string>& texts) {
  const std::unordered_set<std::string> taken(texts.begin(), texts.end());
  for (auto id = static_cast<int64_t>(texts.size()); id < rows; ++id) {
    std::string text = fmt::format("[PAD{}]", id);
    while (taken.contains(text)) text = "[" + text + "]";
    texts.push_back(text);
  }
}

std::vector<std::string> add_vocabulary(const SentencePieceModel& model, const SpecialTokens& special, int64_t rows,
                                        Metadata& out) {
  require(reason_against_vocabulary(model).empty(), "the SentencePiece model {}", reason_against_vocabulary(model));
  require(rows >= static_cast<int64_t>(model.pieces.size()), "the tokenizer has {} pieces, and the model has {} rows",
          model.pieces.size(), rows);
  std::vector<std::string> texts;
  std::vector<float> scores;
  std::vector<int32_t> types;
  for (const Piece& piece : model.pieces) {
    texts.push_back(piece.text);
    scores.push_back(piece.score);
    types.push_back(static_cast<int32_t>(piece.type));  // the numbers are those of llama.cpp too
  }
  pad_tokens(rows, texts);
  scores.resize(texts.size(), 0.0f);
  types.resize(texts.size(), static_cast<int32_t>(PieceType::unused));

  out.add_string("tokenizer.ggml.model", "llama");
  out.add_string("tokenizer.ggml.pre", "default");
  out.add_strings("tokenizer.ggml.tokens", texts);
  out.add_f32s("tokenizer.ggml.scores", scores);
  out.add_i32s("tokenizer.ggml.token_type", types);
  add_special_tokens(special, out);
  out.add_bool("tokenizer.ggml.add_space_prefix", model.add_dummy_prefix);

  std::vector<std::string> reasons = differences(model);
  if (special.eos < 0) reasons.push_back("the model has no EOS, and llama.cpp takes token 2 to be one");
  return reasons;
}

void add_no_vocabulary(Metadata& out) {
  out.add_string("tokenizer.ggml.model", "none");
}

}  // namespace strand::gguf
