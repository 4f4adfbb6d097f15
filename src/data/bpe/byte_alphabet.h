#pragma once
// The alphabet in which byte-level BPE spells bytes as characters that can be printed (GPT-2's bytes_to_unicode): the
// bytes 33 to 126, 161 to 172 and 174 to 255 are the characters with the same number, and the other 68 are U+0100 and
// the characters after it, in their order. A space is "Ġ", a newline "Ċ".
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace strand {

/// The character of a byte, in UTF-8.
const std::string& spelled_byte(uint8_t byte);
/// The bytes in this alphabet.
std::string spell_bytes(std::string_view bytes);
/// The bytes that are spelled so; none when there is a character that is not in the alphabet.
std::optional<std::string> read_spelled(std::string_view text);

}  // namespace strand
