#pragma once
// What Python does to text, where the prompts of lm-evaluation-harness depend on it. Text is UTF-8 and valid.
#include <cstdint>
#include <string>
#include <string_view>

namespace strand {

/// str.strip(), str.lstrip() and str.rstrip(): white space of Unicode, as str.isspace() has it.
std::string_view strip(std::string_view text);
std::string_view strip_left(std::string_view text);
std::string_view strip_right(std::string_view text);

/// str.capitalize() for ASCII: the first letter in upper case, all others in lower case. Letters beyond ASCII stay.
std::string capitalize(std::string text);

/// str.replace(): every occurrence from left to right, none of which overlaps the one before.
std::string replace_all(std::string_view text, std::string_view from, std::string_view to);

/// len(): Unicode code points.
int64_t code_points(std::string_view text);

/// len(re.split(r"\s+", text)): pieces between runs of white space. A run at an end of the text has an empty piece
/// beyond it, which counts.
int64_t words(std::string_view text);

/// The clean-up of HellaSwag's activities and endings: strips, makes ". " of " [title]", removes spans in brackets
/// within a line, and makes one space of two in one pass from the left.
std::string clean_hellaswag(std::string_view text);

/// The text of a page of WikiText, whose words and punctuation stand apart, as one would write it.
std::string detokenize_wikitext(std::string_view page);

}  // namespace strand
