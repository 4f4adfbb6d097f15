#include "export/tokenizer_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <tuple>
#include <unordered_map>

namespace strand::hf {

using nlohmann::ordered_json;

namespace {
constexpr const char* space = "\u2581";  // the character that stands for a space in SentencePiece's pieces

bool is_continuation(char c) {
  return (static_cast<unsigned char>(c) & 0xC0) == 0x80;
}

int64_t character_count(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return !is_continuation(c); });
}

const std::string& text_of(const SentencePieceModel& model, int32_t id) {
  return model.pieces[static_cast<size_t>(id)].text;
}

ordered_json replace(ordered_json pattern, const char* content) {
  return {{"type", "Replace"}, {"pattern", std::move(pattern)}, {"content", content}};
}

/// The steps of SentencePiece's normalizer, in its order. At the end of a text it removes the "▁" too.
ordered_json normalizer_of(const SentencePieceModel& model) {
  ordered_json steps = ordered_json::array();
  if (model.remove_extra_whitespaces) {
    steps.push_back(replace({{"Regex", fmt::format("\\A +|[ {}]+\\z", space)}}, ""));
    steps.push_back(replace({{"Regex", " {2,}"}}, " "));
  }
  if (model.add_dummy_prefix) steps.push_back({{"type", "Prepend"}, {"prepend", space}});
  steps.push_back(replace({{"String", " "}}, space));
  return {{"type", "Sequence"}, {"normalizers", steps}};
}

ordered_json decoder_of(const SentencePieceModel& model) {
  ordered_json steps = {replace({{"String", space}}, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}};
  if (model.add_dummy_prefix || model.remove_extra_whitespaces)
    steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return {{"type", "Sequence"}, {"decoders", steps}};
}

/// Puts BOS before every text, as our training data has it.
ordered_json post_processor_of(const SentencePieceModel& model, const SpecialTokens& special) {
  if (special.bos < 0) return nullptr;
  const std::string bos = text_of(model, special.bos);
  const ordered_json begin = {{"SpecialToken", {{"id", bos}, {"type_id", 0}}}};
  const ordered_json begin_again = {{"SpecialToken", {{"id", bos}, {"type_id", 1}}}};
  const ordered_json first = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const ordered_json second = {{"Sequence", {{"id", "B"}, {"type_id", 1}}}};
  ordered_json out = {{"type", "TemplateProcessing"}};
  out["single"] = ordered_json::array({begin, first});
  out["pair"] = ordered_json::array({begin, first, begin_again, second});
  out["special_tokens"][bos] = {{"id", bos}, {"ids", {special.bos}}, {"tokens", {bos}}};
  return out;
}

bool is_special(const Piece& piece) {
  return piece.type == PieceType::control || piece.type == PieceType::unknown;
}

ordered_json added_token(const std::string& text) {
  return {{"content", text}, {"lstrip", false},      {"normalized", false},
          {"rstrip", false}, {"single_word", false}, {"special", true}};
}

ordered_json model_of(const SentencePieceModel& model, const SpecialTokens& special) {
  ordered_json vocabulary = ordered_json::object(), merges = ordered_json::array();
  // An ordered_json compares every new key with all old ones. The pieces are known to be distinct, so they are appended
  // directly.
  ordered_json::object_t::Container& entries = vocabulary.get_ref<ordered_json::object_t&>();
  for (size_t id = 0; id < model.pieces.size(); ++id) entries.emplace_back(model.pieces[id].text, id);
  for (const auto& [left, right] : merges_of(model)) merges.push_back(left + " " + right);
  ordered_json out = {{"type", "BPE"}, {"dropout", nullptr}};
  out["unk_token"] = special.unk >= 0 ? ordered_json(text_of(model, special.unk)) : ordered_json(nullptr);
  out["continuing_subword_prefix"] = nullptr;
  out["end_of_word_suffix"] = nullptr;
  out["fuse_unk"] = true;
  out["byte_fallback"] = model.byte_fallback;
  out["ignore_merges"] = false;
  out["vocab"] = std::move(vocabulary);
  out["merges"] = std::move(merges);
  return out;
}

/// What a tokenizer_config.json says in any case. `text` gives the text of an id.
template <typename Text>
void add_common(ordered_json& config, const SpecialTokens& special, int64_t longest_sequence, const Text& text) {
  const auto text_or_null = [&](int32_t id) { return id >= 0 ? ordered_json(text(id)) : ordered_json(nullptr); };
  config["bos_token"] = text_or_null(special.bos);
  config["eos_token"] = text_or_null(special.eos);
  config["unk_token"] = text_or_null(special.unk);
  config["pad_token"] = text_or_null(special.pad);
  config["clean_up_tokenization_spaces"] = false;
  config["model_max_length"] = longest_sequence;
  // It is not LlamaTokenizer, because that, in transformers 5, makes its own normalizer and ignores the one in
  // tokenizer.json.
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
}

bool is_run_of_spaces(std::string_view text) {
  const std::string_view one = space;
  while (text.starts_with(one)) text.remove_prefix(one.size());
  return text.empty();
}

/// A text about two pieces of the same score, or "". SentencePiece merges such pieces from left to right, and merging
/// by rank begins with one of them. Runs of spaces, whose scores are equal in LLaMA-2 and Mistral, have the same result
/// in both ways.
std::string reason_in_scores(const SentencePieceModel& model) {
  std::unordered_map<float, size_t> by_score;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const Piece& piece = model.pieces[id];
    if (piece.type != PieceType::normal || character_count(piece.text) < 2) continue;
    if (!std::isfinite(piece.score)) return fmt::format("the score of piece {} is no finite number", id);
    const auto [other, first] = by_score.emplace(piece.score, id);
    if (!first && !(is_run_of_spaces(piece.text) && is_run_of_spaces(model.pieces[other->second].text)))
      return fmt::format("pieces {} and {} have the same score", other->second, id);
  }
  return "";
}
}  // namespace

std::string reason_against_tokenizer_json(const SentencePieceModel& model) {
  using Algorithm = SentencePieceModel::Algorithm;
  if (model.algorithm != Algorithm::bpe)
    return fmt::format("the model is {}, and only models of type BPE can be written as one",
                       model.algorithm == Algorithm::unigram ? "a unigram model" : "one of words or characters");
  if (!model.charsmap.empty())
    return "the model replaces characters before it looks for pieces (normalization_rule_name is not identity), "
           "which Hugging Face's tokenizers do in another way";
  if (model.whitespace_as_suffix) return "the model has treat_whitespace_as_suffix";
  if (!model.escape_whitespaces) return "the model has escape_whitespaces: false";
  std::unordered_map<std::string, size_t> seen;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const Piece& piece = model.pieces[id];
    if (!seen.emplace(piece.text, id).second) return fmt::format("the piece \"{}\" is there twice", piece.text);
    if (piece.type == PieceType::user_defined || piece.type == PieceType::unused)
      return fmt::format("piece {} (\"{}\") is user-defined or unused", id, piece.text);
  }
  return reason_in_scores(model);
}

std::vector<std::pair<std::string, std::string>> merges_of(const SentencePieceModel& model) {
  std::unordered_map<std::string_view, size_t> ids;
  for (size_t id = 0; id < model.pieces.size(); ++id)
    if (model.pieces[id].type == PieceType::normal) ids.emplace(model.pieces[id].text, id);

  struct Merge {
    size_t piece, left, right;
  };
  std::vector<Merge> merges;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const Piece& piece = model.pieces[id];
    if (piece.type != PieceType::normal) continue;
    const std::string_view text = piece.text;
    for (size_t cut = 1; cut < text.size(); ++cut) {
      if (is_continuation(text[cut])) continue;
      const auto left = ids.find(text.substr(0, cut)), right = ids.find(text.substr(cut));
      if (left != ids.end() && right != ids.end()) merges.push_back({id, left->second, right->second});
    }
  }
  std::sort(merges.begin(), merges.end(), [&](const Merge& a, const Merge& b) {
    const auto rank = [&](const Merge& m) {
      return std::tuple(-model.pieces[m.piece].score, m.piece, m.left, m.right);
    };
    return rank(a) < rank(b);
  });
  std::vector<std::pair<std::string, std::string>> out;
  out.reserve(merges.size());
  for (const Merge& m : merges) out.emplace_back(model.pieces[m.left].text, model.pieces[m.right].text);
  return out;
}

TokenizerFiles tokenizer_files(const SentencePieceModel& model, const SpecialTokens& special,
                               int64_t longest_sequence) {
  ordered_json added = ordered_json::array(), decoder = ordered_json::object();
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    if (!is_special(model.pieces[id])) continue;
    ordered_json token = {{"id", id}};
    token.update(added_token(model.pieces[id].text));
    added.push_back(token);
    decoder[std::to_string(id)] = added_token(model.pieces[id].text);
  }
  ordered_json tokenizer = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}, {"added_tokens", added}};
  tokenizer["normalizer"] = normalizer_of(model);
  tokenizer["pre_tokenizer"] = nullptr;
  tokenizer["post_processor"] = post_processor_of(model, special);
  tokenizer["decoder"] = decoder_of(model);
  tokenizer["model"] = model_of(model, special);

  ordered_json config = {{"added_tokens_decoder", decoder}};
  config["add_bos_token"] = special.bos >= 0;
  config["add_eos_token"] = false;
  add_common(config, special, longest_sequence, [&](int32_t id) { return text_of(model, id); });
  return {tokenizer.dump(1) + "\n", config.dump(2) + "\n"};
}

namespace {
void add_files(const SentencePieceModel& model, const Tokenizer& tokenizer, int64_t longest_sequence,
               ExportedTokenizer& out) {
  out.reason = reason_against_tokenizer_json(model);
  if (!out.reason.empty()) return;
  const TokenizerFiles made = tokenizer_files(model, tokenizer.special(), longest_sequence);
  out.files[tokenizer_json_file] = made.tokenizer_json;
  out.files[tokenizer_config_file] = made.tokenizer_config_json;
}

/// A tokenizer.json alone says all that AutoTokenizer needs but the names of the special tokens.
void add_files(const TokenizerJson&, const Tokenizer& tokenizer, int64_t longest_sequence, ExportedTokenizer& out) {
  if (out.files.contains(tokenizer_config_file)) return;
  ordered_json config = ordered_json::object();
  add_common(config, tokenizer.special(), longest_sequence, [&](int32_t id) { return tokenizer.piece(id); });
  out.files[tokenizer_config_file] = config.dump(2) + "\n";
}
}  // namespace

ExportedTokenizer exported_tokenizer(const Tokenizer& tokenizer, int64_t longest_sequence) {
  ExportedTokenizer out{tokenizer.files(), ""};
  std::visit([&](const auto& description) { add_files(description, tokenizer, longest_sequence, out); },
             tokenizer.description());
  return out;
}

}  // namespace strand::hf
