#pragma once
// The text of tokens that come one after another.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer.h"

namespace strand {

/// Decodes tokens as they come. What a later token may change is held back: the bytes of a character that is not whole
/// yet, and the begin of a stop text.
class GrowingText {
 public:
  /// `tokenizer` outlives the text. `before` are the ids after which it stands; it begins where their text ends. The
  /// text ends before the first of `stops` that is complete in it, at whatever byte of a token that is; none is empty.
  GrowingText(const Tokenizer& tokenizer, const std::vector<int32_t>& before, std::vector<std::string> stops);

  /// Adds a token. The text may be stopped then.
  void append(int32_t id);
  /// Says that no more tokens come: nothing is held back any longer. The text may be stopped then too.
  void finish();

  /// The text that no later token changes.
  std::string_view settled() const { return std::string_view(text_).substr(0, settled_); }
  /// Whether a stop text was found.
  bool is_stopped() const { return stop_ != nullptr; }
  /// The one that was found.
  const std::string& stop() const { return *stop_; }

 private:
  void decode(std::string_view added);
  void look_for_stops(size_t from);
  size_t held_back() const;

  const Tokenizer& tokenizer_;
  std::vector<std::string> stops_;
  size_t longest_stop_ = 0;
  std::vector<int32_t> window_;  ///< the last ids: those that are decoded, as context, and then those that are not
  size_t decoded_ = 0;           ///< ids of the window that are in text_
  std::string text_;
  size_t settled_ = 0;
  const std::string* stop_ = nullptr;
};

}  // namespace strand
