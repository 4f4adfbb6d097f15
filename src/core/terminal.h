#pragma once
// How wide a terminal is, and how wide text is on it.
#include <string>
#include <string_view>

namespace strand {

/// The descriptor is a terminal on which a line can be erased and written again (TERM=dumb says that it is not).
bool rewrites_lines(int descriptor);

/// Columns of the terminal at this moment, at least 1. Where the terminal does not say: the environment's COLUMNS, and
/// without it 80.
int terminal_columns(int descriptor);

/// Columns that UTF-8 text without control characters takes: 2 for a wide character (Chinese, Japanese, Korean, emoji),
/// 0 for one that joins the character before it, 1 for any other and for a byte that is no UTF-8.
int columns_of(std::string_view text);

/// The longest beginning of `text` that takes at most `columns` columns.
std::string fit_columns(std::string_view text, int columns);

}  // namespace strand
