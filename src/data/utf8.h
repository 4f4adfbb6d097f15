#pragma once
// UTF-8 as the Unicode standard defines it (table 3-7): no overlong forms, no surrogates, nothing past U+10FFFF.
#include <cstddef>
#include <string>
#include <string_view>

namespace strand {

/// The byte offset of the first ill-formed sequence, or text.size() when there is none.
size_t first_invalid_utf8(std::string_view text);

/// The character at byte `at` of well-formed UTF-8. Moves `at` to the next character.
char32_t next_utf8(std::string_view text, size_t& at);
/// Appends a character, which is at most U+10FFFF.
void append_utf8(char32_t character, std::string& text);

/// The text with U+FFFD in the place of what is ill-formed: one for each longest begin of a well-formed sequence, and
/// one for each other byte (the Unicode standard, section 3.9, "substitution of maximal subparts").
std::string with_replacements(std::string_view bytes);

}  // namespace strand
