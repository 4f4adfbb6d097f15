#pragma once
// The character rules in a SentencePiece model (its "precompiled charsmap"): which characters the normalizer replaces,
// and by what. The bytes are the size of a double-array trie, the trie (of the darts-clone library), and the
// replacements, each with a zero byte at its end. The value of a key is the offset of its replacement.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace strand {

struct CharacterRule {
  std::string from;
  std::string to;
};

/// All rules, or nothing when the bytes do not have this form. No bytes are no rules.
std::optional<std::vector<CharacterRule>> character_rules(std::string_view charsmap);

}  // namespace strand
