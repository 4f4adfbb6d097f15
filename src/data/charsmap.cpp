#include "data/charsmap.h"

#include <cstdint>
#include <cstring>

namespace strand {

namespace {
constexpr size_t longest_key = 256;             // bytes; real ones have some twenty
constexpr size_t most_steps = size_t{1} << 22;  // a real trie takes some 200,000, as keys with equal ends share units

class Trie {
 public:
  Trie(std::string_view units, std::string_view replacements) : replacements_(replacements) {
    units_.resize(units.size() / sizeof(uint32_t));
    std::memcpy(units_.data(), units.data(), units_.size() * sizeof(uint32_t));
  }

  /// Returns false when the units do not form a trie.
  bool list(std::vector<CharacterRule>& rules) {
    if (units_.empty()) return true;
    return visit(offset_of(units_[0]), rules);
  }

 private:
  // One unit, as darts-clone packs it.
  static uint32_t label_of(uint32_t unit) { return unit & (uint32_t{1} << 31 | 0xFF); }
  static size_t offset_of(uint32_t unit) { return size_t{unit >> 10} << ((unit & (uint32_t{1} << 9)) >> 6); }
  static bool has_value(uint32_t unit) { return (unit >> 8 & 1) != 0; }
  static size_t value_of(uint32_t unit) { return unit & ~(uint32_t{1} << 31); }

  bool visit(size_t node, std::vector<CharacterRule>& rules) {
    if (key_.size() >= longest_key) return false;
    for (uint32_t byte = 1; byte < 256; ++byte) {
      const size_t child = node ^ byte;
      if (child >= units_.size() || label_of(units_[child]) != byte) continue;
      if (++steps_ > most_steps) return false;
      key_ += static_cast<char>(byte);
      const size_t next = child ^ offset_of(units_[child]);
      if (has_value(units_[child]) && !add(next, rules)) return false;
      if (!visit(next, rules)) return false;
      key_.pop_back();
    }
    return true;
  }

  bool add(size_t leaf, std::vector<CharacterRule>& rules) const {
    if (leaf >= units_.size()) return false;
    const size_t begin = value_of(units_[leaf]);
    const size_t end = begin < replacements_.size() ? replacements_.find('\0', begin) : std::string_view::npos;
    if (end == std::string_view::npos) return false;
    rules.push_back({key_, std::string(replacements_.substr(begin, end - begin))});
    return true;
  }

  std::vector<uint32_t> units_;
  std::string_view replacements_;
  std::string key_;
  size_t steps_ = 0;
};
}  // namespace

std::optional<std::vector<CharacterRule>> character_rules(std::string_view charsmap) {
  std::vector<CharacterRule> rules;
  if (charsmap.empty()) return rules;
  uint32_t bytes = 0;
  if (charsmap.size() < sizeof(bytes)) return std::nullopt;
  std::memcpy(&bytes, charsmap.data(), sizeof(bytes));
  charsmap.remove_prefix(sizeof(bytes));
  if (bytes > charsmap.size()) return std::nullopt;
  if (!Trie(charsmap.substr(0, bytes), charsmap.substr(bytes)).list(rules)) return std::nullopt;
  return rules;
}

}  // namespace strand
