#pragma once
// The character rules that a SentencePiece model carries (its "precompiled charsmap"): what the normalizer replaces by
// what. The bytes are the size of a double-array trie, the trie (of the darts-clone library) and the replacements, each
// ended by a zero byte; the value of a key is the offset of its replacement.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace strand {

struct CharacterRule {
  std::string from;
  std::string to;
};

/// Every rule; nothing when the bytes do not have this form. Empty bytes hold no rule.
std::optional<std::vector<CharacterRule>> character_rules(std::string_view charsmap);

}  // namespace strand
