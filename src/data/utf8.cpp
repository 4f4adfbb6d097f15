#include "data/utf8.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace strand {

namespace {
// The number of bytes of the well-formed sequence at `at`, or 0.
size_t sequence_bytes(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return at + i < text.size() ? static_cast<uint8_t>(text[at + i]) : uint8_t{0}; };
  const auto tail = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return tail(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const uint8_t low = lead == 0xE0 ? 0xA0 : 0x80, high = lead == 0xED ? 0x9F : 0xBF;
    return byte(1) >= low && byte(1) <= high && tail(2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const uint8_t low = lead == 0xF0 ? 0x90 : 0x80, high = lead == 0xF4 ? 0x8F : 0xBF;
    return byte(1) >= low && byte(1) <= high && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}
}  // namespace

size_t first_invalid_utf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    if (at + 8 <= text.size()) {  // eight ASCII bytes at once
      uint64_t word;
      std::memcpy(&word, text.data() + at, 8);
      if ((word & 0x8080808080808080u) == 0) {
        at += 8;
        continue;
      }
    }
    const size_t bytes = sequence_bytes(text, at);
    if (bytes == 0) return at;
    at += bytes;
  }
  return text.size();
}

char32_t next_utf8(std::string_view text, size_t& at) {
  const auto lead = static_cast<uint8_t>(text[at]);
  const size_t bytes = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  char32_t character = bytes == 1 ? lead : lead & (0x7Fu >> bytes);
  for (size_t i = 1; i < bytes; ++i) character = character << 6 | (static_cast<uint8_t>(text[at + i]) & 0x3F);
  at += bytes;
  return character;
}

void append_utf8(char32_t character, std::string& text) {
  const auto put = [&](char32_t byte) { text += static_cast<char>(byte); };
  const auto tail = [&](int shift) { put(0x80 | (character >> shift & 0x3F)); };
  if (character < 0x80) return put(character);
  if (character < 0x800) {
    put(0xC0 | character >> 6);
  } else if (character < 0x10000) {
    put(0xE0 | character >> 12);
    tail(6);
  } else {
    put(0xF0 | character >> 18);
    tail(12);
    tail(6);
  }
  tail(0);
}

namespace {
// The number of bytes at the begin of ill-formed `bytes` that one U+FFFD replaces: as many as could begin a well-formed
// sequence, and at least one.
size_t maximal_subpart(std::string_view bytes) {
  constexpr std::string_view tails[] = {"\x80", "\x80\x80"};  // one of them completes every begin of two bytes or more
  for (size_t length = std::min<size_t>(3, bytes.size()); length > 1; --length) {
    for (const std::string_view tail : tails) {
      const std::string whole = std::string(bytes.substr(0, length)) + std::string(tail);
      if (sequence_bytes(whole, 0) == whole.size()) return length;
    }
  }
  return 1;
}
}  // namespace

std::string with_replacements(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const size_t good = first_invalid_utf8(bytes);
    text += bytes.substr(0, good);
    bytes.remove_prefix(good);
    if (bytes.empty()) break;
    text += "\uFFFD";
    bytes.remove_prefix(maximal_subpart(bytes));
  }
  return text;
}

}  // namespace strand
