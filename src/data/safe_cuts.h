#pragma once
// Where a long text may be cut so that its parts, encoded one by one, give exactly the ids that SentencePiece gives for
// the whole text. Every cut stands before a space or before a newline. The proof, for the kinds of model that have one:
//
//   BPE and character models build pieces out of neighbouring characters, and which pieces they build in one place does
//   not depend on any other place. So a border between two characters that stand side by side in no piece of the
//   vocabulary splits the work into two halves. Unigram models have no such border: they add up scores from the begin
//   of the text in single precision, so that an early word may change how a late one is cut. Word models join unknown
//   words.
//
//   The normalizer works from left to right. Its rules must not look across the border, and what it does at the two
//   ends of a text (the "▁" before the first word, the removal of outer spaces) must be undone or repeated for each
//   part.
//
// Where one of these conditions does not hold, there is no cut, and the text has to be held in memory as a whole.
#include <cstddef>
#include <string_view>
#include <unordered_set>

#include "data/sentencepiece_model.h"

namespace strand {

class SafeCuts {
 public:
  explicit SafeCuts(const SentencePieceModel& model);

  /// The first safe place at or after `from`: the text before it and the text from it on may be encoded one after the
  /// other. npos when there is none; the end of `text` may become a safe place when more text follows.
  size_t find(std::string_view text, size_t from) const;
  /// Whether there is a safe place in any text.
  bool possible() const { return before_space_ || before_newline_; }
  /// How the normalizer has to treat the ends of every part but the first.
  TextEnds ends_of_later_part() const { return ends_; }

 private:
  bool check_charsmap(const SentencePieceModel& model);
  bool may_precede(char32_t before, char cut) const;

  bool before_space_ = false;
  bool before_newline_ = false;
  bool only_after_letters_ = false;                   // cut only after ASCII letters and digits
  bool removes_spaces_ = false;                       // the normalizer removes outer and repeated spaces
  std::unordered_set<char32_t> joined_with_space_;    // characters that stand before "▁" in some piece
  std::unordered_set<char32_t> joined_with_newline_;  // characters that stand before a newline in some piece
  TextEnds ends_;
};

}  // namespace strand
