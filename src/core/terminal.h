#pragma once
// How wide a terminal is, and how wide text is on it.
#include <string>
#include <string_view>

namespace strand {

/// Whether the descriptor is a terminal on which a line can be erased and written again. With TERM=dumb it is not.
bool rewrites_lines(int descriptor);

/// Columns of the terminal at this moment, at least 1. Where the terminal does not tell, it is the number in the
/// environment variable COLUMNS, and 80 without that.
int terminal_columns(int descriptor);

/// The columns that UTF-8 text without control characters takes. A wide character (Chinese, Japanese, Korean, emoji)
/// takes 2, one that joins the character before it takes 0, and any other takes 1, as does a byte that is not UTF-8.
int columns_of(std::string_view text);

/// The longest beginning of `text` that takes at most `columns` columns.
std::string fit_columns(std::string_view text, int columns);

}  // namespace strand
