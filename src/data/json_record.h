#pragma once
// Reads one text from one line of JSON, in corpora that other programs wrote. Only the value that is wanted is decoded.
// Values of other keys are skipped by their quotes and brackets, whatever they contain: NaN, Infinity, 1e999, half a
// surrogate pair, bytes that are not UTF-8.
#include <cstdint>
#include <string>
#include <string_view>

namespace strand {

struct RecordText {
  std::string text;
  uint64_t replaced = 0;  ///< lone surrogates in the text, each of which became U+FFFD
};

/// The string under `key` in the object that `line` holds. When the key occurs more than once, the last one counts.
/// Throws Error that says what is wrong and at which byte of the line, without quoting the line.
RecordText record_text(std::string_view line, const std::string& key);

}  // namespace strand
