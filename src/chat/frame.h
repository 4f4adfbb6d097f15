#pragma once
// The texts of a chat template. In them, "{bos}" and "{eos}" stand for the begin and the end of text, special tokens
// that each tokenizer has in its own spelling.
#include <cstdint>
#include <string>
#include <vector>

namespace strand {

/// A part of a rendered conversation.
struct Part {
  enum class Kind : uint8_t {
    frame,    ///< text of the template; a special token that it spells is one
    content,  ///< text of a message; what it spells is text
    bos,
    eos
  };
  Kind kind = Kind::frame;
  std::string text;  ///< empty for bos and eos
  bool operator==(const Part&) const = default;
};

/// Appends the parts of a text of a template.
void append_frame(const std::string& text, std::vector<Part>& parts);
/// Removes white space at both ends of a text in parts, as str.strip() of Python does, and Jinja's filter `trim`.
void trim(std::vector<Part>& parts);
/// The same for one text.
std::string trimmed(std::string text);

}  // namespace strand
