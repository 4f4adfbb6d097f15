#include "data/growing_text.h"

#include <algorithm>

#include "core/error.h"

namespace strand {

namespace {
constexpr std::string_view replacement = "\xEF\xBF\xBD";  // U+FFFD, as which bytes are decoded that are no character

/// Whether the ids before a token give its text the place in which it stands: the text of a single token may lose a
/// space that it has after other text.
bool is_context(const std::string& text) {
  return text.find_first_not_of(' ') != text.npos && !text.ends_with(replacement);
}

/// The bytes that two texts have in common at their begin, in whole characters.
size_t common_begin(std::string_view a, std::string_view b) {
  const size_t shorter = std::min(a.size(), b.size());
  size_t common = 0;
  while (common < shorter && a[common] == b[common]) ++common;
  while (common > 0 && common < a.size() && (static_cast<unsigned char>(a[common]) & 0xC0) == 0x80) --common;
  return common;
}
}  // namespace

GrowingText::GrowingText(const Tokenizer& tokenizer, const std::vector<int32_t>& before, std::vector<std::string> stops)
    : tokenizer_(tokenizer), stops_(std::move(stops)), window_(before), decoded_(before.size()) {
  for (const std::string& stop : stops_) {
    require(!stop.empty(), "a stop text is empty");
    longest_stop_ = std::max(longest_stop_, stop.size());
  }
}

void GrowingText::append(int32_t id) {
  if (is_stopped()) return;
  window_.push_back(id);
  const std::span<const int32_t> all(window_);
  const std::string whole = tokenizer_.decode(all);
  if (whole.ends_with(replacement)) return;  // perhaps a character that is not whole
  const std::string before = tokenizer_.decode(all.first(decoded_));
  // The ids that are new become the context of the next ones where they can.
  if (is_context(tokenizer_.decode(all.subspan(decoded_))))
    window_.erase(window_.begin(), window_.begin() + static_cast<std::ptrdiff_t>(decoded_));
  decoded_ = window_.size();
  decode(std::string_view(whole).substr(common_begin(whole, before)));
}

void GrowingText::finish() {
  if (is_stopped()) return;
  const std::span<const int32_t> all(window_);
  const std::string whole = tokenizer_.decode(all), before = tokenizer_.decode(all.first(decoded_));
  decoded_ = window_.size();
  decode(std::string_view(whole).substr(common_begin(whole, before)));
  if (!is_stopped()) settled_ = text_.size();
}

void GrowingText::decode(std::string_view added) {
  const size_t old = text_.size();
  text_ += added;
  look_for_stops(old - std::min(old, longest_stop_));
  if (!is_stopped()) settled_ = text_.size() - held_back();
}

/// Ends the text before a stop text. Of several that the last token completes, it is the one that begins first, and of
/// several that begin there, the one named first.
void GrowingText::look_for_stops(size_t from) {
  size_t first = text_.npos;
  for (const std::string& stop : stops_) {
    const size_t at = text_.find(stop, from);
    if (at >= first) continue;
    first = at;
    stop_ = &stop;
  }
  if (!is_stopped()) return;
  text_.resize(first);
  settled_ = first;
}

/// The length of the longest end of the text with which a stop text begins.
size_t GrowingText::held_back() const {
  size_t longest = 0;
  for (const std::string& stop : stops_)
    for (size_t bytes = std::min(stop.size() - 1, text_.size()); bytes > longest; --bytes)
      if (text_.ends_with(std::string_view(stop).substr(0, bytes))) longest = bytes;
  return longest;
}

}  // namespace strand
