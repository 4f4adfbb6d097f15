#pragma once
// Where a long text may be cut so that its parts, encoded one by one, give exactly the ids of the whole text: between
// an ASCII letter and a space. The proof, for the patterns in the table of letter_cuts.cpp:
//
//   No match of such a pattern holds a letter and the space after it, no pattern looks behind a match, and one looks
//   ahead only past white space. So each stage finds the same matches on both sides of the border, in the whole text
//   and in its parts. At least one stage matches every letter, so that no piece reaches across the border.
//
//   Composition (NFC) leaves letters and spaces alone when no mark stands between them. An added token must not hold a
//   letter and a space after it, nor take white space after itself.
//
// Where one of these conditions does not hold, there is no cut, and the text has to be held in memory as a whole.
#include <cstddef>
#include <string_view>

#include "data/bpe/tokenizer_json.h"

namespace strand {

class LetterCuts {
 public:
  explicit LetterCuts(const TokenizerJson& tokenizer);

  bool possible() const { return possible_; }
  /// The first such place at or after `from`, or npos.
  size_t find(std::string_view text, size_t from) const;

 private:
  bool possible_;
};

}  // namespace strand
