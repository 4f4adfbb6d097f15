#include "data/bpe/characters.h"

#include <unicode/uchar.h>

#include <cstdint>

#include "data/utf8.h"

namespace strand {

bool is_white_space(char32_t character) {
  return u_isUWhiteSpace(static_cast<UChar32>(character)) != 0;
}

bool is_word_character(char32_t character) {
  const auto c = static_cast<UChar32>(character);
  const uint32_t categories = U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK;
  return u_isUAlphabetic(c) != 0 || (U_GET_GC_MASK(c) & categories) != 0 || u_hasBinaryProperty(c, UCHAR_JOIN_CONTROL);
}

char32_t first_character(std::string_view text) {
  size_t at = 0;
  return next_utf8(text, at);
}

char32_t last_character(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return next_utf8(text, at);
}

}  // namespace strand
