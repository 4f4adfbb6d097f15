#pragma once
// Tables of numbers as colours, and bars: SVG, or a PNG picture within the page where cells are many.
#include <string>
#include <vector>

namespace strand::run_report {

struct HeatMap {
  std::string title;
  std::string note;                         ///< a sentence below it, or ""
  std::string row_word, column_word;        ///< "layer", "expert"
  std::vector<std::vector<double>> values;  ///< [rows][columns], all rows of one length; NaN = no value: hatched grey
  std::vector<std::string> row_names;       ///< as many as rows
  /// How a value becomes a colour: of the share of `full` where that is above 0; else of log2(value) between -2 and 2,
  /// which has no colour at 1.
  double full = 0;
};

std::string heat_map_html(const HeatMap& map);

/// One bar a name, from 0; `reference`, if above 0, is a dashed line. Values are finite.
struct Bars {
  std::string title;
  std::string note;
  std::vector<std::string> names;
  std::vector<double> values;
  double reference = 0;
};
std::string bars_html(const Bars& bars);

/// A PNG of 8-bit RGBA pixels, row by row.
std::string png_of(const std::vector<unsigned char>& rgba, size_t width, size_t height);
std::string base64(const std::string& bytes);

}  // namespace strand::run_report
