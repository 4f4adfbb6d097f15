#pragma once
// Regular expressions as tokenizer.json files have them. They are written for Oniguruma with Ruby's syntax, the engine
// of Hugging Face's tokenizers, and run here by PCRE2. What both engines read alike is passed on, `\s` and `\S` are
// written out (PCRE2 counts U+180E to the white space), and everything else is refused by name.
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "data/byte_range.h"

namespace strand {

class Regex {
 public:
  /// Throws Error that begins with `where` when the pattern is not understood, or may match the empty text.
  Regex(const std::string& pattern, const std::string& where);

  const std::string& pattern() const { return pattern_; }

 private:
  friend class RegexSearch;
  std::string pattern_;
  std::string where_;
  std::shared_ptr<void> code_;
};

/// The memory that a search needs. Each thread that searches has one; the expression must outlive it.
class RegexSearch {
 public:
  explicit RegexSearch(const Regex& regex);

  /// The first match at or after byte `from` of well-formed UTF-8. An empty range at the end of the text means none.
  /// Throws Error when the engine gives up.
  ByteRange find(std::string_view text, size_t from);

 private:
  const Regex* regex_;
  std::shared_ptr<void> data_;
};

/// The same pattern in PCRE2's syntax. Throws Error that begins with `where`.
std::string to_pcre2(const std::string& pattern, const std::string& where);
/// A pattern that matches exactly this text.
std::string quoted_pattern(std::string_view text);

}  // namespace strand
