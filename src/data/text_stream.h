#pragma once
// Shows a text while its tokens come, one after the other.
#include <cstdint>
#include <string>
#include <vector>

#include "data/tokenizer.h"

namespace strand {

/// The bytes of a character may come from several tokens. Until it is whole it decodes to U+FFFD, and is held back.
class TextStream {
 public:
  /// The text begins with `ids`. The tokenizer outlives the stream.
  TextStream(const Tokenizer& tokenizer, std::vector<int32_t> ids) : tokenizer_(tokenizer), ids_(std::move(ids)) {}

  /// Adds a token. Returns what is new of the text and no later token can change; "" when there is nothing.
  std::string add(int32_t id);
  /// The rest of the text, with U+FFFD for bytes that never became a character.
  std::string finish();

 private:
  std::string take(const std::string& text, size_t end);

  const Tokenizer& tokenizer_;
  std::vector<int32_t> ids_;
  size_t shown_ = 0;  ///< bytes of the text that were returned
};

}  // namespace strand
