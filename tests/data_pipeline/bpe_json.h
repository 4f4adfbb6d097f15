#pragma once
// A tokenizer.json small enough to work out by hand what it makes of a text.
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "core/random.h"
#include "data/bpe/byte_alphabet.h"
#include "data/tokenizer.h"

namespace strand_test {

using namespace strand;
using nlohmann::json;

using Ids = std::vector<int32_t>;

inline const std::string qwen_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// A tokenizer.json with the 256 bytes, each with its own number as id, and these merges (the texts of two tokens, as
/// bytes), whose results are the ids from 256 on.
inline json small_json(const std::vector<std::pair<std::string, std::string>>& merges) {
  json vocabulary = json::object(), spelled_merges = json::array();
  for (int byte = 0; byte < 256; ++byte) vocabulary[spelled_byte(static_cast<uint8_t>(byte))] = byte;
  for (const auto& [left, right] : merges) {
    spelled_merges.push_back(spell_bytes(left) + " " + spell_bytes(right));
    if (!vocabulary.contains(spell_bytes(left + right))) vocabulary[spell_bytes(left + right)] = vocabulary.size();
  }
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer",
           {{"type", "Sequence"},
            {"pretokenizers",
             {{{"type", "Split"}, {"pattern", {{"Regex", qwen_pattern}}}, {"behavior", "Isolated"}, {"invert", false}},
              {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}}}}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", spelled_merges}}}};
}

inline const std::vector<std::pair<std::string, std::string>> hello = {
    {"h", "e"}, {"l", "l"}, {"he", "ll"}, {"hell", "o"}, {" ", "w"}, {"a", "a"}, {"\xC3", "\xA9"}, {"o", "\xCC"}};
inline constexpr int32_t he = 256, ll = 257, hell = 258, hello_id = 259, space_w = 260, aa = 261, e_acute = 262;

inline json added(int32_t id, const std::string& content, const std::vector<std::string>& flags = {}) {
  json token = {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", false}, {"special", false}};
  for (const std::string& flag : flags) token[flag] = true;
  return token;
}

inline std::unique_ptr<const Tokenizer> tokenizer_of(const json& content, const json& config = nullptr) {
  NamedFiles files{{tokenizer_json_file, content.dump()}};
  if (!config.is_null()) files.emplace(tokenizer_config_file, config.dump());
  return Tokenizer::from_files(files, "dir/tokenizer.json");
}

/// A text of letters, spaces and everything else, by a fixed recurrence.
inline std::string random_text(uint64_t seed, size_t characters) {
  const std::vector<std::string> parts = {"a",       "b",   "hello", " ",  "  ",     "\n",    "\r\n",
                                          "'s",      "'LL", "1",     "23", ".",      "--",    "é",
                                          "e\u0301", "中",  "😀",     "\t", "\u00a0", "<|a|>", "w"};
  std::string text;
  for (size_t i = 0; i < characters; ++i) text += parts[random_bits(seed, i) % parts.size()];
  return text;
}

}  // namespace strand_test
