#include "chat/frame.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace strand {

namespace {
struct Mark {
  std::string_view spelling;
  Part::Kind kind;
};
constexpr std::array marks = {Mark{"{bos}", Part::Kind::bos}, Mark{"{eos}", Part::Kind::eos}};

/// The white space of Python's str: characters of bidirectional type WS, B or S, or of category Zs (Unicode 14), in
/// UTF-8.
constexpr std::array<std::string_view, 29> spaces = {
    "\t",           "\n",           "\v",           "\f",           "\r",
    "\x1c",         "\x1d",         "\x1e",         "\x1f",         " ",
    "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x81",
    "\xE2\x80\x82", "\xE2\x80\x83", "\xE2\x80\x84", "\xE2\x80\x85", "\xE2\x80\x86",
    "\xE2\x80\x87", "\xE2\x80\x88", "\xE2\x80\x89", "\xE2\x80\x8A", "\xE2\x80\xA8",
    "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80"};

/// The bytes of white space at the begin of a text.
size_t leading_space(std::string_view text) {
  size_t bytes = 0;
  for (bool more = true; more;) {
    more = false;
    for (const std::string_view space : spaces) {
      if (!text.substr(bytes).starts_with(space)) continue;
      bytes += space.size();
      more = true;
    }
  }
  return bytes;
}

size_t trailing_space(std::string_view text) {
  const size_t whole = text.size();
  for (bool more = true; more;) {
    more = false;
    for (const std::string_view space : spaces) {
      if (!text.ends_with(space)) continue;
      text.remove_suffix(space.size());
      more = true;
    }
  }
  return whole - text.size();
}
}  // namespace

void append_frame(const std::string& text, std::vector<Part>& parts) {
  std::string_view rest = text;
  while (!rest.empty()) {
    size_t at = rest.npos;
    const Mark* found = nullptr;
    for (const Mark& mark : marks) {
      const size_t place = rest.find(mark.spelling);
      if (place >= at) continue;
      at = place;
      found = &mark;
    }
    if (at > 0) parts.push_back({Part::Kind::frame, std::string(rest.substr(0, at))});
    if (!found) return;
    parts.push_back({found->kind, ""});
    rest.remove_prefix(at + found->spelling.size());
  }
}

void trim(std::vector<Part>& parts) {
  const auto is_token = [](const Part& p) { return p.kind == Part::Kind::bos || p.kind == Part::Kind::eos; };
  while (!parts.empty() && !is_token(parts.front())) {
    std::string& text = parts.front().text;
    text.erase(0, leading_space(text));
    if (!text.empty()) break;
    parts.erase(parts.begin());
  }
  while (!parts.empty() && !is_token(parts.back())) {
    std::string& text = parts.back().text;
    text.erase(text.size() - trailing_space(text));
    if (!text.empty()) break;
    parts.pop_back();
  }
}

std::string trimmed(std::string text) {
  text.erase(0, leading_space(text));
  text.erase(text.size() - trailing_space(text));
  return text;
}

}  // namespace strand
