#include "data/document_splitter.h"

#include <algorithm>

#include "core/error.h"
#include "core/nearest.h"

namespace strand {

namespace {
constexpr size_t longest_token = 1024;  // bytes
constexpr size_t npos = std::string_view::npos;

/// A misspelt word would be taken for a token that stands nowhere, and the text would stay one document.
void require_no_slip(const std::string& text) {
  if (text.find_first_not_of("abcdefghijklmnopqrstuvwxyz-_") != npos) return;  // no slip, but a token
  const std::string meant = did_you_mean(text, {"none", "blank-lines", "lines"});
  require(meant.empty(),
          "--split-documents: '{}' is neither none, nor blank-lines, nor lines{}, and too near to them to "
          "be meant as a token",
          text, meant);
}

// The begin of the line break that ends at `end`; `end` itself when there is none.
size_t before_line_break(std::string_view text, size_t end) {
  if (end == 0 || text[end - 1] != '\n') return end;
  return end > 1 && text[end - 2] == '\r' ? end - 2 : end - 1;
}

// No separator was found. Text at the end that may be the begin of a line break stays undecided.
Separator not_found(std::string_view text, size_t undecided) {
  while (undecided > 0 && undecided <= text.size() && (text[undecided - 1] == '\n' || text[undecided - 1] == '\r')) {
    --undecided;
  }
  return {.undecided = undecided};
}

Separator find_line(std::string_view text, size_t from) {
  const size_t newline = text.find('\n', from);
  if (newline == npos) return not_found(text, text.size());
  return {before_line_break(text, newline + 1), newline + 1};
}

Separator find_blank_lines(std::string_view text, size_t from, MoreText more) {
  for (size_t newline = text.find('\n', from); newline != npos; newline = text.find('\n', newline + 1)) {
    size_t end = newline + 1;
    for (;;) {  // over lines that are blank
      const size_t visible = std::min(text.find_first_not_of(" \t\r\f\v", end), text.size());
      if (visible == text.size()) {
        if (more == MoreText::may_follow) return not_found(text, newline);
        end = text.size();
        break;
      }
      if (text[visible] != '\n') break;
      end = visible + 1;
    }
    if (end > newline + 1 || end == text.size()) return {before_line_break(text, newline + 1), end};
  }
  return not_found(text, text.size());
}

Separator find_token(std::string_view token, std::string_view text, size_t from, MoreText more) {
  const size_t at = text.find(token, from);
  if (at == npos) return not_found(text, text.size() - std::min(text.size(), token.size() - 1));
  size_t end = at + token.size();
  if (more == MoreText::may_follow && text.size() < end + 2) return not_found(text, at);
  if (text.substr(end, 2) == "\r\n") {
    end += 2;
  } else if (text.substr(end, 1) == "\n") {
    end += 1;
  }
  return {before_line_break(text, at), end};
}
}  // namespace

Splitting Splitting::parse(const std::string& text) {
  if (text == "none") return {};
  if (text == "blank-lines") return {Kind::blank_lines, ""};
  if (text == "lines") return {Kind::lines, ""};
  require_no_slip(text);
  require(!text.empty() && text.size() <= longest_token,
          "a token that separates documents has 1 to {} bytes, this one has {}", longest_token, text.size());
  return {Kind::token, text};
}

Separator find_separator(const Splitting& splitting, std::string_view text, size_t from, MoreText more) {
  switch (splitting.kind) {
    case Splitting::Kind::none:
      break;
    case Splitting::Kind::lines:
      return find_line(text, from);
    case Splitting::Kind::blank_lines:
      return find_blank_lines(text, from, more);
    case Splitting::Kind::token:
      return find_token(splitting.token, text, from, more);
  }
  return {.undecided = text.size()};
}

}  // namespace strand
