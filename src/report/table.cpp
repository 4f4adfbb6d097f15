#include "report/table.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/number_text.h"

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

std::string grouped_digits(int64_t number) {
  std::string digits = std::to_string(number);
  const auto first = static_cast<std::ptrdiff_t>(number < 0);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > first; at -= 3)
    digits.insert(digits.begin() + at, ',');
  return digits;
}

namespace {
std::string scaled(double number, double base, const std::vector<const char*>& units) {
  size_t unit = 0;
  while (std::abs(number) >= base && unit + 1 < units.size()) {
    number /= base;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} {}", number, units[0]) : fmt::format("{:.2f} {}", number, units[unit]);
}
}  // namespace

std::string bytes_text(double bytes) {
  return scaled(bytes, 1024, {"B", "KiB", "MiB", "GiB", "TiB", "PiB"});
}

std::string si_text(double number) {
  std::string text = scaled(number, 1000, {"", "k", "M", "G", "T", "P", "E"});
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

std::string percent_text(double share) {
  return fixed_text(100 * share, 1) + " %";
}

}  // namespace strand
