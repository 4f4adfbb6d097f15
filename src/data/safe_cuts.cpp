#include "data/safe_cuts.h"

#include <algorithm>
#include <string>

#include "data/charsmap.h"

namespace strand {

namespace {
using Algorithm = SentencePieceModel::Algorithm;

constexpr char32_t space_mark = 0x2581;  // "▁", which stands for a space in pieces
constexpr std::string_view space_mark_text = "\u2581";

bool is_letter_or_digit(char32_t c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// The character that ends at byte `end` of well-formed UTF-8.
char32_t character_before(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && end - begin < 4 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  const auto lead = static_cast<unsigned char>(text[begin]);
  char32_t c = lead < 0x80 ? lead : lead < 0xE0 ? lead & 0x1F : lead < 0xF0 ? lead & 0x0F : lead & 0x07;
  for (size_t i = begin + 1; i < end; ++i) c = c << 6 | (static_cast<unsigned char>(text[i]) & 0x3F);
  return c;
}

void add_characters_before(std::string_view mark, std::string_view piece, std::unordered_set<char32_t>& characters) {
  for (size_t at = piece.find(mark, 1); at != std::string_view::npos; at = piece.find(mark, at + 1)) {
    characters.insert(character_before(piece, at));
  }
}

bool holds_piece(const SentencePieceModel& model, std::string_view text) {
  return std::any_of(model.pieces.begin(), model.pieces.end(), [&](const Piece& piece) {
    return piece.text == text && (piece.type == PieceType::normal || piece.type == PieceType::user_defined);
  });
}

bool any_piece(const SentencePieceModel& model, bool (*condition)(const Piece&)) {
  return std::any_of(model.pieces.begin(), model.pieces.end(), condition);
}
}  // namespace

SafeCuts::SafeCuts(const SentencePieceModel& model) {
  if (model.algorithm != Algorithm::bpe && model.algorithm != Algorithm::character) return;
  // There is no proof for models that put the "▁" at the end of a text instead of its begin, or that keep spaces.
  if (model.whitespace_as_suffix || !model.escape_whitespaces) return;
  // BPE splits an unused piece in the way in which it was last put together, anywhere in the text.
  if (any_piece(model, [](const Piece& piece) { return piece.type == PieceType::unused; })) return;
  // The normalizer could find a piece with a real space, before spaces become "▁".
  if (any_piece(model, [](const Piece& piece) { return piece.text.find(' ') != std::string::npos; })) return;

  for (const Piece& piece : model.pieces) {
    add_characters_before(space_mark_text, piece.text, joined_with_space_);
    add_characters_before("\n", piece.text, joined_with_newline_);
  }
  // Without byte fallback, unknown characters side by side become one id, also across the border, unless the character
  // after the border is known.
  before_space_ = model.byte_fallback || holds_piece(model, space_mark_text);
  before_newline_ = model.byte_fallback || holds_piece(model, "\n");

  removes_spaces_ = model.remove_extra_whitespaces;
  if (removes_spaces_) {
    // The normalizer removes the spaces with which a part begins, and the "▁" that it puts before the first word
    // replaces the one that the whole text has there. A part that begins with a newline would get a "▁" too many.
    ends_ = {.add_dummy_prefix = true, .remove_extra_whitespaces = true};
    before_newline_ = false;
  }
  if (!model.charsmap.empty() && !check_charsmap(model)) before_space_ = before_newline_ = false;
}

// With character rules, a cut is made only between an ASCII letter or digit and a space. No rule may look from one side
// of the border to the other, and the characters at the border must not be changed by a rule.
bool SafeCuts::check_charsmap(const SentencePieceModel& model) {
  before_newline_ = false;
  only_after_letters_ = true;
  // The character before the border may be the result of a rule, so no piece may join "▁" to any character before it.
  for (const char32_t c : joined_with_space_) {
    if (c != space_mark) return false;
  }
  const auto rules = character_rules(model.charsmap);
  if (!rules) return false;
  for (const CharacterRule& rule : *rules) {
    const bool is_space = rule.from == " ";
    if (rule.from.find(' ') != std::string::npos && !(is_space && rule.to == " ")) return false;
    const bool ends_as_space = rule.to.empty() || rule.to.ends_with(' ') || rule.to.ends_with(space_mark_text);
    if (is_letter_or_digit(static_cast<unsigned char>(rule.from.back())) && ends_as_space) return false;
  }
  return true;
}

bool SafeCuts::may_precede(char32_t before, char cut) const {
  if (before == '\r') return false;  // "\r\n" is not cut
  if (only_after_letters_ && !is_letter_or_digit(before)) return false;
  if (before == ' ') before = space_mark;
  if (removes_spaces_ && before == space_mark) return false;
  return (cut == ' ' ? joined_with_space_ : joined_with_newline_).count(before) == 0;
}

size_t SafeCuts::find(std::string_view text, size_t from) const {
  if (!possible()) return std::string_view::npos;
  for (size_t at = std::max<size_t>(from, 1); at < text.size(); ++at) {
    const char c = text[at];
    const bool candidate = (c == ' ' && before_space_) || (c == '\n' && before_newline_);
    if (candidate && may_precede(character_before(text, at), c)) return at;
  }
  return std::string_view::npos;
}

}  // namespace strand
