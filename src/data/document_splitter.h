#pragma once
// Where one document of a .txt ends and the next begins. A separator takes the line break before it and the one after
// it along, so that documents neither begin nor end with what only kept them apart.
#include <cstddef>
#include <string>
#include <string_view>

namespace strand {

struct Splitting {
  enum class Kind {
    none,         ///< a file is a document
    blank_lines,  ///< one or more lines without a visible character
    lines,        ///< every line is a document
    token,        ///< a text such as "<|endoftext|>"
  };
  Kind kind = Kind::none;
  std::string token;

  /// "none", "blank-lines", "lines", or anything else as a token.
  static Splitting parse(const std::string& text);
};

/// Bytes [begin, end) of a text that separate two documents; begin = npos: none was found.
struct Separator {
  size_t begin = std::string_view::npos;
  size_t end = 0;
  /// Without a separator: from here on one may begin, once more text is there. Everything before belongs to the
  /// document.
  size_t undecided = 0;

  bool found() const { return begin != std::string_view::npos; }
};

enum class MoreText { may_follow, never_follows };

/// The first separator of `text` at or after `from`, an earlier answer's `undecided` or 0.
Separator find_separator(const Splitting& splitting, std::string_view text, size_t from, MoreText more);

}  // namespace strand
