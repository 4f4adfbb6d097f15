#pragma once
// UTF-8 as the Unicode standard defines it (table 3-7): no overlong forms, no surrogates, nothing past U+10FFFF.
#include <cstddef>
#include <string_view>

namespace strand {

/// The byte offset of the first ill-formed sequence, or text.size() when there is none.
size_t first_invalid_utf8(std::string_view text);

}  // namespace strand
