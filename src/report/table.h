#pragma once
// Tables for people.
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

}  // namespace strand
