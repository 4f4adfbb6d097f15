#pragma once
// Properties of characters, from ICU.
#include <string_view>

namespace strand {

bool is_white_space(char32_t character);  ///< the property White_Space
/// A letter, mark, decimal digit, connector or joiner (the Unicode standard's UTS 18, annex C, \w).
bool is_word_character(char32_t character);

/// The character at the begin or at the end of well-formed UTF-8, which is not empty.
char32_t first_character(std::string_view text);
char32_t last_character(std::string_view text);

}  // namespace strand
