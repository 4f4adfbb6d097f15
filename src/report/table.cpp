#include "report/table.h"

#include <fmt/core.h>

#include <algorithm>

#include "core/error.h"

namespace strand {

void TextTable::add(std::vector<std::string> cells) {
  require(cells.size() == rows_.front().size(), "a table of {} columns was given a row of {}", rows_.front().size(),
          cells.size());
  rows_.push_back(std::move(cells));
}

std::string TextTable::text() const {
  std::vector<size_t> widths(rows_.front().size());
  for (const auto& row : rows_)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  std::string text;
  for (const auto& row : rows_) {
    text += fmt::format("  {:<{}}", row[0], widths[0]);
    for (size_t i = 1; i < row.size(); ++i) text += fmt::format("  {:>{}}", row[i], widths[i]);
    text.erase(text.find_last_not_of(' ') + 1);
    text += '\n';
  }
  return text;
}

}  // namespace strand
