// The vocabulary of a GGUF file for a byte-level BPE tokenizer.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "core/error.h"
#include "data/bpe/byte_alphabet.h"
#include "export/gguf_vocabulary.h"

namespace strand::gguf {

namespace {
enum class TokenType : int32_t { normal = 1, control = 3, user_defined = 4, unused = 5 };

/// A pre-tokenizer of llama.cpp: its name, and the patterns of the tokenizer.json that it stands for, by stage.
struct PreTokenizer {
  const char* name;
  std::vector<std::string> patterns;
  bool ignores_merges = false;
};

const std::vector<PreTokenizer>& pre_tokenizers() {
  static const std::vector<PreTokenizer> known = {
      {"gpt-2", {gpt2_pattern}},           {"qwen2", {qwen2_pattern}},           {"llama-bpe", {llama3_pattern}, true},
      {"bailingmoe2", {bailing2_pattern}}, {"deepseek-llm", deepseek2_patterns}, {"deepseek-v3", deepseek3_patterns}};
  return known;
}

bool is_split_by(const SplitterStage& stage, const std::string& pattern) {
  const auto* const split = std::get_if<SplitStage>(&stage);
  return split != nullptr && split->behavior == SplitBehavior::isolated && !split->invert &&
         split->pattern.pattern() == pattern;
}

const PreTokenizer* find_pre_tokenizer(const TokenizerJson& tokenizer) {
  for (const PreTokenizer& known : pre_tokenizers()) {
    if (std::equal(tokenizer.splitter.begin(), tokenizer.splitter.end(), known.patterns.begin(), known.patterns.end(),
                   is_split_by))
      return &known;
  }
  return nullptr;
}

/// The first token of the model that the merges do not make of its own text; none = they make all of them.
std::optional<size_t> token_without_merges(const TokenizerJson& tokenizer) {
  std::vector<std::string> texts;
  for (const std::string& spelling : tokenizer.spellings) texts.push_back(read_spelled(spelling).value_or(""));
  PieceEncoder::Options options = tokenizer.options;
  options.ignore_merges = false;
  const PieceEncoder encoder(texts, tokenizer.merges, options);
  std::vector<PieceToken> tokens;
  for (size_t id = 0; id < texts.size(); ++id) {
    const bool added = std::any_of(tokenizer.added.begin(), tokenizer.added.end(),
                                   [&](const AddedToken& token) { return token.id == static_cast<int32_t>(id); });
    if (texts[id].empty() || added) continue;
    tokens.clear();
    encoder.encode(texts[id], tokens);
    if (tokens.size() != 1 || tokens[0].id != static_cast<int32_t>(id)) return id;
  }
  return std::nullopt;
}

/// What the tokenizer does with a text that llama.cpp does not.
std::vector<std::string> differences(const TokenizerJson& tokenizer, const PreTokenizer& pre) {
  std::vector<std::string> out;
  for (const NormalizerStep& step : tokenizer.normalizer) {
    out.push_back(std::holds_alternative<ComposeCharacters>(step)
                      ? "it composes characters and their marks (NFC), and llama.cpp takes them as they come"
                      : "it has a normalizer other than NFC");
    break;
  }
  if (pre.ignores_merges != tokenizer.options.ignore_merges) {
    if (const auto id = token_without_merges(tokenizer))
      out.push_back(fmt::format(
          "a piece of text that is the token {} (\"{}\") {}, and llama.cpp's \"{}\" does the "
          "contrary",
          *id, tokenizer.spellings[*id],
          pre.ignores_merges ? "is merged from its bytes" : "becomes it whatever the merges say", pre.name));
  }
  for (const AddedToken& token : tokenizer.added) {
    if (!token.single_word && !(token.normalized && !tokenizer.normalizer.empty())) continue;
    out.push_back(fmt::format("the added token \"{}\" is found as a single word or in normalized text", token.content));
    break;
  }
  return out;
}
}  // namespace

std::string reason_against_vocabulary(const TokenizerJson& tokenizer) {
  return find_pre_tokenizer(tokenizer) == nullptr ? "splits texts with patterns that llama.cpp has no name for" : "";
}

std::vector<std::string> add_vocabulary(const TokenizerJson& tokenizer, const SpecialTokens& special, int64_t rows,
                                        Metadata& out) {
  const PreTokenizer* const pre = find_pre_tokenizer(tokenizer);
  require(pre != nullptr, "the byte-level tokenizer {}", reason_against_vocabulary(tokenizer));
  std::vector<std::string> texts = tokenizer.spellings;
  std::vector<int32_t> types(texts.size(), static_cast<int32_t>(TokenType::normal));
  for (const AddedToken& token : tokenizer.added) {
    const auto id = static_cast<size_t>(token.id);
    texts.resize(std::max(texts.size(), id + 1));
    types.resize(texts.size(), static_cast<int32_t>(TokenType::normal));
    texts[id] = token.content;
    types[id] = static_cast<int32_t>(token.special ? TokenType::control : TokenType::user_defined);
  }
  require(rows >= static_cast<int64_t>(texts.size()), "the tokenizer has {} tokens, and the model has {} rows",
          texts.size(), rows);
  for (size_t id = 0; id < texts.size(); ++id) {
    if (!texts[id].empty()) continue;
    texts[id] = fmt::format("[PAD{}]", id);
    types[id] = static_cast<int32_t>(TokenType::unused);
  }
  pad_tokens(rows, texts);
  types.resize(texts.size(), static_cast<int32_t>(TokenType::unused));
  std::vector<std::string> merges;
  for (const Merge& merge : tokenizer.merges)
    merges.push_back(tokenizer.spellings[static_cast<size_t>(merge.left)] + " " +
                     tokenizer.spellings[static_cast<size_t>(merge.right)]);

  out.add_string("tokenizer.ggml.model", "gpt2");
  out.add_string("tokenizer.ggml.pre", pre->name);
  out.add_strings("tokenizer.ggml.tokens", texts);
  out.add_i32s("tokenizer.ggml.token_type", types);
  out.add_strings("tokenizer.ggml.merges", merges);
  add_special_tokens(special, out);

  std::vector<std::string> reasons = differences(tokenizer, *pre);
  if (special.eos < 0) reasons.push_back("it names no EOS, and llama.cpp takes one of its own choice");
  return reasons;
}

}  // namespace strand::gguf
