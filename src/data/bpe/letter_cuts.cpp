#include "data/bpe/letter_cuts.h"

#include <algorithm>
#include <set>
#include <string>

namespace strand {

namespace {
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/// The patterns for which the proof holds, and which of them match every letter.
const std::set<std::string>& matching_letters() {
  static const std::set<std::string> patterns = {gpt2_pattern,     qwen2_pattern,         llama3_pattern,
                                                 bailing2_pattern, deepseek2_patterns[1], deepseek3_patterns[2]};
  return patterns;
}
const std::set<std::string>& matching_no_letter_and_space() {
  static const std::set<std::string> patterns = [] {
    std::set<std::string> all = matching_letters();
    all.insert(deepseek2_patterns.begin(), deepseek2_patterns.end());
    all.insert(deepseek3_patterns.begin(), deepseek3_patterns.end());
    all.insert({R"(\p{N})", R"(\p{N}+)", R"([\r\n])"});
    return all;
  }();
  return patterns;
}

bool stages_allow(const std::vector<SplitterStage>& stages) {
  bool every_letter = false;
  for (const SplitterStage& stage : stages) {
    // A piece that begins with a space gets none before it, so this stage treats a later part as the whole text.
    if (std::holds_alternative<PrefixSpaceStage>(stage)) continue;
    const auto& split = std::get<SplitStage>(stage);
    if (split.behavior != SplitBehavior::isolated || split.invert) return false;
    if (!matching_no_letter_and_space().contains(split.pattern.pattern())) return false;
    every_letter = every_letter || matching_letters().contains(split.pattern.pattern());
  }
  return every_letter;
}

bool allows(const NormalizerStep& step) {
  return std::holds_alternative<ComposeCharacters>(step);
}

bool token_allows(const AddedToken& token) {
  if (token.rstrip) return false;
  for (size_t at = 1; at < token.content.size(); ++at)
    if (token.content[at] == ' ' && is_letter(token.content[at - 1])) return false;
  return true;
}
}  // namespace

LetterCuts::LetterCuts(const TokenizerJson& tokenizer)
    : possible_(stages_allow(tokenizer.splitter) &&
                std::all_of(tokenizer.normalizer.begin(), tokenizer.normalizer.end(), allows) &&
                std::all_of(tokenizer.added.begin(), tokenizer.added.end(), token_allows)) {}

size_t LetterCuts::find(std::string_view text, size_t from) const {
  if (!possible_) return std::string_view::npos;
  for (size_t at = std::max<size_t>(from, 1); at < text.size(); ++at)
    if (text[at] == ' ' && is_letter(text[at - 1])) return at;
  return std::string_view::npos;
}

}  // namespace strand
