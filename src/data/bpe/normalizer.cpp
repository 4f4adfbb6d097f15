#include "data/bpe/normalizer.h"

#include <unicode/bytestream.h>
#include <unicode/edits.h>
#include <unicode/normalizer2.h>
#include <unicode/uniset.h>

#include <algorithm>
#include <cstdint>

#include "core/error.h"

namespace strand {

namespace {
// ICU counts bytes in 32 bits, and composition makes no text longer than three times.
constexpr size_t max_bytes = size_t{1} << 29;
// A text may grow so many times. Steps that multiply it again and again would fill the memory.
constexpr size_t max_growth = 16, room_for_short_texts = 4096;

void require_done(UErrorCode status) {
  require(U_SUCCESS(status), "ICU cannot normalize a text: {}", u_errorName(status));
}

/// Hugging Face's tokenizers compose by the tables of Unicode 9, and leave alone what came later.
const icu::Normalizer2& composer() {
  static const icu::Normalizer2* const made = [] {
    UErrorCode status = U_ZERO_ERROR;
    static const icu::UnicodeSet known(icu::UnicodeString("[:age=9.0:]", -1, US_INV), status);
    const icu::Normalizer2* const all = icu::Normalizer2::getNFCInstance(status);
    require_done(status);
    return new icu::FilteredNormalizer2(*all, known);
  }();
  return *made;
}

icu::StringPiece piece_of(std::string_view text) {
  require(text.size() <= max_bytes, "a text of {} bytes cannot be normalized at once: at most {}", text.size(),
          max_bytes);
  return {text.data(), static_cast<int32_t>(text.size())};
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

bool is_composed(std::string_view text) {
  if (is_ascii(text)) return true;
  UErrorCode status = U_ZERO_ERROR;
  const bool composed = composer().isNormalizedUTF8(piece_of(text), status) != 0;
  require_done(status);
  return composed;
}

/// What the bytes [begin, end) of a text with this source were made from.
ByteRange source_of(const std::vector<ByteRange>& source, size_t begin, size_t end) {
  return {source[begin].begin, source[end - 1].end};
}

/// Makes a text from parts of another one and from new text.
class Rewriter {
 public:
  explicit Rewriter(const NormalizedText& from) : from_(from) { to_.text.reserve(from.text.size()); }

  void keep(size_t bytes) {
    to_.text.append(from_.text, at_, bytes);
    if (tracks()) to_.source.insert(to_.source.end(), source_at(at_), source_at(at_ + bytes));
    at_ += bytes;
  }
  /// Puts `text` in the place of the next bytes.
  void replace(size_t bytes, std::string_view text) {
    to_.text += text;
    if (tracks()) to_.source.insert(to_.source.end(), text.size(), source_of(from_.source, at_, at_ + bytes));
    at_ += bytes;
  }
  NormalizedText finish() {
    keep(from_.text.size() - at_);
    return std::move(to_);
  }
  size_t at() const { return at_; }

 private:
  bool tracks() const { return !from_.source.empty(); }
  std::vector<ByteRange>::const_iterator source_at(size_t at) const {
    return from_.source.begin() + static_cast<std::ptrdiff_t>(at);
  }

  const NormalizedText& from_;
  NormalizedText to_;
  size_t at_ = 0;
};

NormalizedText apply(const ComposeCharacters&, const NormalizedText& text) {
  std::string composed;
  icu::Edits edits;
  icu::StringByteSink<std::string> sink(&composed, static_cast<int32_t>(text.text.size()));
  UErrorCode status = U_ZERO_ERROR;
  composer().normalizeUTF8(0, piece_of(text.text), sink, &edits, status);
  require_done(status);
  Rewriter rewriter(text);
  for (auto edit = edits.getFineIterator(); edit.next(status) != 0;) {
    const auto bytes = static_cast<size_t>(edit.oldLength());
    if (edit.hasChange() == 0) {
      rewriter.keep(bytes);
    } else {
      rewriter.replace(bytes, std::string_view(composed).substr(static_cast<size_t>(edit.destinationIndex()),
                                                                static_cast<size_t>(edit.newLength())));
    }
  }
  require_done(status);
  return rewriter.finish();
}

NormalizedText apply(const ReplaceMatches& step, const NormalizedText& text) {
  RegexSearch search(step.pattern);
  Rewriter rewriter(text);
  while (rewriter.at() < text.text.size()) {
    const ByteRange match = search.find(text.text, rewriter.at());
    rewriter.keep(match.begin - rewriter.at());
    if (match.begin < match.end) rewriter.replace(match.end - match.begin, step.by);
  }
  return rewriter.finish();
}

NormalizedText apply(const PrependText& step, const NormalizedText& text) {
  NormalizedText out = text;
  if (text.text.empty()) return out;
  out.text.insert(0, step.text);
  if (!text.source.empty()) {
    const size_t begin = text.source[0].begin;
    out.source.insert(out.source.begin(), step.text.size(), ByteRange{begin, begin});
  }
  return out;
}

bool leaves_alone(const ComposeCharacters&, std::string_view text) {
  return is_composed(text);
}
bool leaves_alone(const ReplaceMatches& step, std::string_view text) {
  const ByteRange match = RegexSearch(step.pattern).find(text, 0);
  return match.begin == match.end;
}
bool leaves_alone(const PrependText&, std::string_view text) {
  return text.empty();
}
}  // namespace

Normalizer::Normalizer(std::vector<NormalizerStep> steps) : steps_(std::move(steps)) {}

bool Normalizer::leaves_alone(std::string_view text) const {
  return std::all_of(steps_.begin(), steps_.end(), [&](const NormalizerStep& step) {
    return std::visit([&](const auto& s) { return strand::leaves_alone(s, text); }, step);
  });
}

NormalizedText Normalizer::normalize(std::string_view text, KeepSource keep) const {
  NormalizedText out{std::string(text), {}};
  if (keep == KeepSource::yes) {
    out.source.reserve(text.size());
    for (size_t i = 0; i < text.size(); ++i) out.source.push_back({i, i + 1});
  }
  const size_t most = max_growth * text.size() + room_for_short_texts;
  for (const NormalizerStep& step : steps_) {
    out = std::visit([&](const auto& s) { return apply(s, out); }, step);
    require(out.text.size() <= most, "a normalizer makes {} bytes of a text of {} bytes", out.text.size(), text.size());
  }
  return out;
}

}  // namespace strand
