#include "data/text_stream.h"

#include <algorithm>

namespace strand {

namespace {
constexpr std::string_view replacement = "\uFFFD";
constexpr int most_unfinished = 3;  // bytes of a character without its last one; SentencePiece replaces each
}  // namespace

std::string TextStream::add(int32_t id) {
  ids_.push_back(id);
  const std::string text = tokenizer_.decode(ids_);
  std::string_view finished = text;
  for (int i = 0; i < most_unfinished && finished.ends_with(replacement); ++i)
    finished.remove_suffix(replacement.size());
  return take(text, std::max(finished.size(), shown_));
}

std::string TextStream::finish() {
  const std::string text = tokenizer_.decode(ids_);
  return take(text, text.size());
}

std::string TextStream::take(const std::string& text, size_t end) {
  std::string part = text.substr(shown_, end - shown_);
  shown_ = end;
  return part;
}

}  // namespace strand
