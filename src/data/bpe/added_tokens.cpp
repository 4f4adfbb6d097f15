#include "data/bpe/added_tokens.h"

#include <algorithm>

#include "data/bpe/characters.h"

namespace strand {

namespace {
uint64_t key_of(uint32_t node, char byte) {
  return uint64_t{node} * 256 + static_cast<unsigned char>(byte);
}

bool stands_alone(std::string_view text, size_t begin, size_t end) {
  const bool word_before = begin > 0 && is_word_character(last_character(text.substr(0, begin)));
  const bool word_after = end < text.size() && is_word_character(first_character(text.substr(end)));
  return !word_before && !word_after;
}

size_t before_white_space(std::string_view text, size_t end) {
  while (end > 0) {
    const char32_t character = last_character(text.substr(0, end));
    if (!is_white_space(character)) break;
    do --end;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80);
  }
  return end;
}

size_t after_white_space(std::string_view text, size_t begin) {
  while (begin < text.size() && is_white_space(first_character(text.substr(begin)))) {
    do ++begin;
    while (begin < text.size() && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80);
  }
  return begin;
}
}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)), token_at_{-1}, begins_(256) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    uint32_t node = 0;
    for (const char byte : tokens_[i].content) {
      const auto [child, is_new] = children_.emplace(key_of(node, byte), static_cast<uint32_t>(token_at_.size()));
      if (is_new) token_at_.push_back(-1);
      node = child->second;
    }
    token_at_[node] = static_cast<int32_t>(i);
    begins_[static_cast<unsigned char>(tokens_[i].content[0])] = true;
  }
}

AddedTokenFinder::Match AddedTokenFinder::find(std::string_view text, size_t from) const {
  if (tokens_.empty()) return {};
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!begins_[static_cast<unsigned char>(text[begin])]) continue;
    Match longest;
    uint32_t node = 0;
    for (size_t at = begin; at < text.size(); ++at) {
      const auto child = children_.find(key_of(node, text[at]));
      if (child == children_.end()) break;
      node = child->second;
      if (token_at_[node] >= 0) longest = {begin, at + 1, &tokens_[static_cast<size_t>(token_at_[node])]};
    }
    if (longest.token != nullptr) return longest;
  }
  return {};
}

std::vector<TextStretch> AddedTokenFinder::split(std::string_view text) const {
  std::vector<TextStretch> stretches;
  const auto add = [&](TextStretch stretch) {
    if (stretch.begin < stretch.end) stretches.push_back(stretch);
  };
  size_t done = 0;  // where the text after the last token begins
  for (size_t from = 0; from < text.size();) {
    const Match match = find(text, from);
    if (match.token == nullptr) break;
    from = match.end;
    if (match.token->single_word && !stands_alone(text, match.begin, match.end)) continue;
    size_t begin = match.begin, end = match.end;
    if (match.token->lstrip) begin = std::max(before_white_space(text, match.begin), done);
    if (match.token->rstrip) end = after_white_space(text, match.end);
    add({done, begin, -1});
    add({begin, end, match.token->id});
    done = end;  // which goes back where the token lies within the white space that the one before it took
  }
  add({done, text.size(), -1});
  return stretches;
}

}  // namespace strand
