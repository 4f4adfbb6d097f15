#pragma once
// What changes a text before it is split: the normalizer of a tokenizer.json.
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "data/bpe/regex.h"

namespace strand {

/// Unicode's normalization form C: characters and their marks are composed where there is a composed character. As in
/// Hugging Face's tokenizers, characters that are newer than Unicode 9 are left alone.
struct ComposeCharacters {};
/// What a pattern matches becomes another text.
struct ReplaceMatches {
  Regex pattern;
  std::string by;
};
/// A text that is not empty gets another one before it.
struct PrependText {
  std::string text;
};
using NormalizerStep = std::variant<ComposeCharacters, ReplaceMatches, PrependText>;

struct NormalizedText {
  std::string text;
  /// For each byte of `text`, the bytes of the original from which it was made. Empty when nobody asked for it.
  std::vector<ByteRange> source;
};

enum class KeepSource { no, yes };

class Normalizer {
 public:
  explicit Normalizer(std::vector<NormalizerStep> steps);

  const std::vector<NormalizerStep>& steps() const { return steps_; }
  /// Whether normalize() would give the same text. It may say no for some texts of which that is true.
  bool leaves_alone(std::string_view text) const;
  /// `text` is well-formed UTF-8. The steps work on it one after the other.
  NormalizedText normalize(std::string_view text, KeepSource keep) const;

 private:
  std::vector<NormalizerStep> steps_;
};

}  // namespace strand
