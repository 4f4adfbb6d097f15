// The syntax of Regex: what Oniguruma (Ruby's syntax) and PCRE2 read alike, and what is written in another way.
#include <algorithm>
#include <cctype>

#include "core/error.h"
#include "data/bpe/regex.h"

namespace strand {

namespace {
// The characters with the property White_Space, and all others, as parts of a class.
constexpr const char* white_space =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr const char* no_white_space =
    R"(\x{0}-\x{8}\x{e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027})"
    R"(\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";

bool is_one_of(char c, std::string_view set) {
  return set.find(c) != std::string_view::npos;
}

class Translator {
 public:
  Translator(const std::string& pattern, const std::string& where) : all_(pattern), rest_(pattern), where_(where) {}

  std::string translate() {
    require(!rest_.empty(), "{}: an empty regular expression", where_);
    while (!rest_.empty()) translate_next();
    return std::move(out_);
  }

 private:
  enum class Place { outside, in_class };

  void translate_next() {
    const char c = rest_[0];
    if (c == '\\') return translate_escape(Place::outside);
    if (c == '[') return translate_class();
    if (c == '(') return translate_group();
    if (c == '{') return translate_repetition();
    if (c == '^' || c == '$') refuse(1);  // ends of lines there, ends of the text here
    pass(1);
  }

  void translate_group() {
    if (!rest_.starts_with("(?")) return pass(1);
    for (const std::string_view begin : {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
      if (rest_.starts_with(begin)) return pass(begin.size());
    }
    refuse(std::min<size_t>(rest_.size(), 4));
  }

  /// {2}, {2,} and {2,3}. What may follow them (possessive, lazy) means something else in each engine.
  void translate_repetition() {
    const size_t end = rest_.find('}');
    const std::string_view inside = rest_.substr(1, end == std::string_view::npos ? 0 : end - 1);
    const bool good = !inside.empty() && std::isdigit(static_cast<unsigned char>(inside[0])) != 0 &&
                      std::all_of(inside.begin(), inside.end(), [](char c) { return is_one_of(c, "0123456789,"); }) &&
                      std::count(inside.begin(), inside.end(), ',') <= 1;
    if (!good) refuse(std::min<size_t>(rest_.size(), 4));
    if (end + 1 < rest_.size() && is_one_of(rest_[end + 1], "+?")) refuse(end + 2);
    pass(end + 1);
  }

  void translate_class() {
    pass(1);
    if (rest_.starts_with("^")) pass(1);
    if (rest_.starts_with("]")) refuse(1);
    while (!rest_.starts_with("]")) {
      require(!rest_.empty(), "{}: the regular expression {} has a class without its end", where_, all_);
      if (rest_[0] == '[') refuse(std::min<size_t>(rest_.size(), 3));  // a class within a class
      if (rest_.starts_with("&&")) refuse(2);                          // the intersection of classes
      if (rest_[0] == '\\') {
        translate_escape(Place::in_class);
      } else {
        pass(1);
      }
    }
    pass(1);
  }

  void translate_escape(Place place) {
    require(rest_.size() > 1, "{}: the regular expression {} ends in a backslash", where_, all_);
    const char c = rest_[1];
    if (c == 's' || c == 'S') {
      const char* const members = c == 's' ? white_space : no_white_space;
      out_ += place == Place::in_class ? std::string(members) : fmt::format("[{}]", members);
      rest_.remove_prefix(2);
    } else if (c == 'p' || c == 'P') {
      translate_property();
    } else if (c == 'x' || c == 'u') {
      translate_number();
    } else if (is_one_of(c, "dDrntf") || (place == Place::outside && is_one_of(c, "Az"))) {
      pass(2);
    } else if (std::ispunct(static_cast<unsigned char>(c)) != 0) {
      pass(2);
    } else {
      refuse(2);
    }
  }

  /// \p{L} and \p{Lu} are categories. Longer names are scripts, without PCRE2's script extensions.
  void translate_property() {
    const size_t end = rest_.find('}');
    if (!rest_.substr(2).starts_with("{") || end == std::string_view::npos) refuse(2);
    std::string_view name = rest_.substr(3, end - 3);
    const bool inverted = name.starts_with("^");
    if (inverted) name.remove_prefix(1);
    if (name.empty() || !std::all_of(name.begin(), name.end(), [](char c) {
          return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_';
        }))
      refuse(end + 1);
    out_ += fmt::format("\\{}{{{}{}{}}}", rest_[1], inverted ? "^" : "", name.size() > 2 ? "sc:" : "", name);
    rest_.remove_prefix(end + 1);
  }

  /// \x41, \x{4e00} and \u4e00
  void translate_number() {
    const bool braces = rest_.substr(1).starts_with("x{");
    const size_t begin = braces ? 3 : 2;
    const size_t end = braces ? rest_.find('}') : begin + (rest_[1] == 'x' ? 2 : 4);
    if (end > rest_.size() || end == begin) refuse(std::min<size_t>(rest_.size(), 4));
    const std::string_view digits = rest_.substr(begin, end - begin);
    if (!std::all_of(digits.begin(), digits.end(),
                     [](char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; }))
      refuse(end);
    out_ += fmt::format("\\x{{{}}}", digits);
    rest_.remove_prefix(end + (braces ? 1 : 0));
  }

  void pass(size_t bytes) {
    out_ += rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
  }

  [[noreturn]] void refuse(size_t bytes) {
    fail("{}: \"{}\" in the regular expression {} is not understood", where_, rest_.substr(0, bytes), all_);
  }

  const std::string& all_;
  std::string_view rest_;
  const std::string& where_;
  std::string out_;
};
}  // namespace

std::string to_pcre2(const std::string& pattern, const std::string& where) {
  return Translator(pattern, where).translate();
}

std::string quoted_pattern(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x80) {
      pattern += fmt::format("\\x{{{:x}}}", static_cast<unsigned char>(c));
    } else {
      pattern += c;
    }
  }
  return pattern;
}

}  // namespace strand
