#pragma once
// Where one document of a .txt ends and the next one begins. The line break before a separator and the one after it are
// part of the separator, so that they do not become a part of the documents.
#include <cstddef>
#include <string>
#include <string_view>

namespace strand {

struct Splitting {
  enum class Kind {
    none,         ///< the whole file is one document
    blank_lines,  ///< one or more lines without a visible character
    lines,        ///< every line is a document
    token,        ///< a text such as "<|endoftext|>" stands between documents stands between documents
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
  /// Where no separator was found: one may begin at this byte or later, which more text would show. Everything before
  /// this byte belongs to the document.
  size_t undecided = 0;

  bool found() const { return begin != std::string_view::npos; }
};

enum class MoreText { may_follow, never_follows };

/// The first separator of `text` that begins at or after `from`, which is 0 or the `undecided` of an earlier answer.
Separator find_separator(const Splitting& splitting, std::string_view text, size_t from, MoreText more);

}  // namespace strand
