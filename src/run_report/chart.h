#pragma once
// Lines over steps. A chart is written twice: as an SVG picture, which needs nothing, and as numbers, of which the
// page's script makes a picture that can be zoomed.
#include <optional>
#include <string>
#include <vector>

#include "run_report/series.h"

namespace strand::run_report {

inline constexpr int colors = 8;  ///< of lines that can be told apart

enum class Stroke { full, faint, dashed };

struct Line {
  std::string name;
  int color = 0;  ///< below `colors`
  Stroke stroke = Stroke::full;
  Band band;
};

enum class FromZero { no, yes };

struct Chart {
  std::string id;     ///< unique on the page
  std::string title;  ///< with the unit
  std::string note;   ///< a sentence below it, or ""
  std::vector<Line> lines;
  FromZero from_zero = FromZero::no;
  /// What is drawn of the values ends there: the first steps of a loss would leave no room for the rest.
  std::optional<double> top;
};

/// Points that a page keeps of one line, given how many lines it has in all.
size_t points_of_a_line(size_t lines_of_page);

/// A figure: title, legend, picture, note.
std::string figure_html(const Chart& chart);
/// A member of the page's data: "id": {...}. Numbers have 6 digits; `most` points of a line at most.
std::string figure_data(const Chart& chart, size_t most);

}  // namespace strand::run_report
