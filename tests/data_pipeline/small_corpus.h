#pragma once
// Text to train a small tokenizer on: English-like words drawn by a fixed recurrence, with digits, indentation and
// accents.
#include <array>
#include <cstdint>
#include <string>

namespace strand_test {

inline std::string small_document(uint64_t seed, int lines) {
  static const std::array<std::string, 16> words = {"the",       "router", "selects", "experts",  "which",  "learn",
                                                    "different", "things", "and",     "couple",   "across", "layers",
                                                    "of",        "a",      "model",   "caf\u00e9"};
  uint64_t state = seed * 6364136223846793005u + 1442695040888963407u;
  const auto draw = [&](uint64_t n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % n;
  };
  std::string text;
  for (int line = 0; line < lines; ++line) {
    if (draw(4) == 0) text += "    ";
    for (uint64_t i = 0, n = 4 + draw(8); i < n; ++i) text += words[draw(words.size())] + " ";
    text += std::to_string(draw(100000)) + ".\n";
  }
  return text;
}

}  // namespace strand_test
