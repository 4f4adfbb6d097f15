#include "tasks/text_rules.h"

#include <algorithm>
#include <array>

namespace strand {

namespace {
constexpr size_t npos = std::string_view::npos;

/// Bytes of the white-space character that begins at `at`; 0 for any other character.
size_t space_at(std::string_view text, size_t at) {
  const auto c = static_cast<unsigned char>(text[at]);
  if (c < 0x80) return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) ? 1 : 0;
  static constexpr std::array<std::string_view, 19> wide = {
      "\u0085", "\u00a0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003", "\u2004", "\u2005", "\u2006",
      "\u2007", "\u2008", "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"};
  for (const std::string_view space : wide) {
    if (text.substr(at).starts_with(space)) return space.size();
  }
  return 0;
}

/// First byte of the character that ends at `end`, above 0.
size_t character_before(std::string_view text, size_t end) {
  --end;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return end;
}

/// Removes white space just inside of pairs, each from an opening character to the next closing one.
std::string tighten(std::string_view text, char open, char close) {
  std::string out;
  for (;;) {
    const size_t begin = text.find(open);
    const size_t end = begin == npos ? npos : text.find(close, begin + 1);
    if (end == npos) return out.append(text);
    out.append(text.substr(0, begin + 1));
    out.append(strip(text.substr(begin + 1, end - begin - 1)));
    out += close;
    text.remove_prefix(end + 1);
  }
}

/// The harness's pattern for numbers after an apostrophe has slashes in it by mistake, and so has what it puts there.
std::string replace_quoted_digits(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const std::string_view rest = text.substr(i);
    if (rest.size() >= 5 && rest.starts_with("/' ") && rest[3] >= '0' && rest[3] <= '9' && rest[4] == '/') {
      out += "/'[0-9]/";
      i += 5;
    } else {
      out += text[i++];
    }
  }
  return out;
}

/// Removes each "[", what follows it, and the next "]", unless the line ends before that.
std::string without_brackets(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    if (text[i] == '[') {
      const size_t end = text.find_first_of("]\n", i);
      if (end != npos && text[end] == ']') {
        i = end + 1;
        continue;
      }
    }
    out += text[i++];
  }
  return out;
}
}  // namespace

std::string_view strip_left(std::string_view text) {
  while (!text.empty()) {
    const size_t bytes = space_at(text, 0);
    if (bytes == 0) break;
    text.remove_prefix(bytes);
  }
  return text;
}

std::string_view strip_right(std::string_view text) {
  while (!text.empty()) {
    const size_t last = character_before(text, text.size());
    if (space_at(text, last) == 0) break;
    text = text.substr(0, last);
  }
  return text;
}

std::string_view strip(std::string_view text) {
  return strip_left(strip_right(text));
}

std::string capitalize(std::string text) {
  for (size_t i = 0; i < text.size(); ++i) {
    char& c = text[i];
    if (i == 0 && c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    if (i > 0 && c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (;;) {
    const size_t at = text.find(from);
    out.append(text.substr(0, at));
    if (at == npos) return out;
    out.append(to);
    text.remove_prefix(at + from.size());
  }
}

int64_t code_points(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

int64_t words(std::string_view text) {
  int64_t pieces = 1;
  bool in_space = false;
  for (size_t i = 0; i < text.size();) {
    const size_t bytes = space_at(text, i);
    if (bytes > 0 && !in_space) ++pieces;
    in_space = bytes > 0;
    i += std::max<size_t>(bytes, 1);
  }
  return pieces;
}

std::string clean_hellaswag(std::string_view text) {
  const std::string titles = replace_all(strip(text), " [title]", ". ");
  return replace_all(without_brackets(titles), "  ", " ");
}

std::string detokenize_wikitext(std::string_view page) {
  std::string text = replace_quoted_digits(replace_all(page, "s '", "s'"));
  const auto replace = [&](std::string_view from, std::string_view to) { text = replace_all(text, from, to); };
  replace(" @-@ ", "-");
  replace(" @,@ ", ",");
  replace(" @.@ ", ".");
  for (const std::string mark : {":", ";", ".", "!", "?", ","}) replace(" " + mark + " ", mark + " ");
  for (const std::string pair : {"()", "[]", "{}", "\"\"", "''"}) text = tighten(text, pair[0], pair[1]);
  replace("= = = =", "====");
  replace("= = =", "===");
  replace("= =", "==");
  replace(" \u00b0 ", "\u00b0");
  replace(" \n", "\n");
  replace("\n ", "\n");
  replace(" N ", " 1 ");
  replace(" 's", "'s");
  return text;
}

}  // namespace strand
