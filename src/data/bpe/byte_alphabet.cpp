#include "data/bpe/byte_alphabet.h"

#include <array>

#include "data/utf8.h"

namespace strand {

namespace {
constexpr size_t past_alphabet = 0x100 + 68;

bool stands_for_itself(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
}

struct Alphabet {
  std::array<std::string, 256> characters;
  std::array<int16_t, past_alphabet> bytes;  // of a character; -1 = it spells none

  Alphabet() {
    bytes.fill(-1);
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const char32_t character = stands_for_itself(byte) ? static_cast<char32_t>(byte) : next++;
      append_utf8(character, characters[static_cast<size_t>(byte)]);
      bytes[character] = static_cast<int16_t>(byte);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet made;
  return made;
}
}  // namespace

const std::string& spelled_byte(uint8_t byte) {
  return alphabet().characters[byte];
}

std::string spell_bytes(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) text += spelled_byte(static_cast<uint8_t>(byte));
  return text;
}

std::optional<std::string> read_spelled(std::string_view text) {
  std::string bytes;
  for (size_t at = 0; at < text.size();) {
    const char32_t character = next_utf8(text, at);
    if (character >= past_alphabet || alphabet().bytes[character] < 0) return std::nullopt;
    bytes += static_cast<char>(alphabet().bytes[character]);
  }
  return bytes;
}

}  // namespace strand
