#pragma once
// Tables and numbers for people.
#include <cstdint>
#include <string>
#include <vector>

namespace strand {

/// A table of text. The first column is aligned left and the others right; a column is as wide as its widest cell.
class TextTable {
 public:
  explicit TextTable(std::vector<std::string> heads) : rows_{std::move(heads)} {}
  /// Adds a row. It has as many cells as there are heads.
  void add(std::vector<std::string> cells);
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

/// 1234567 -> "1,234,567"
std::string grouped_digits(int64_t number);
/// 1536 -> "1.50 KiB"
std::string bytes_text(double bytes);
/// 1.5e9 -> "1.50 G"
std::string si_text(double number);
/// 0.123 -> "12.3 %"
std::string percent_text(double share);

}  // namespace strand
