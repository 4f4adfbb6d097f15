#include "run_report/flow_diagram.h"

#include <fmt/core.h>

#include <cmath>

#include "run_report/text.h"

namespace strand::run_report {

namespace {
constexpr double width = 560, height = 260, below = 18, bar = 8, gap = 2;
constexpr double thinnest = 0.4;  ///< of a ribbon that is drawn, in units of the picture

using Table = std::vector<std::vector<double>>;

bool usable(const FlowDiagram& diagram) {
  if (diagram.layers.size() < 2 || diagram.counts.size() + 1 != diagram.layers.size()) return false;
  const size_t experts = diagram.counts.front().size();
  for (const Table& table : diagram.counts) {
    if (table.size() != experts || experts == 0) return false;
    for (const std::vector<double>& row : table) {
      if (row.size() != experts) return false;
      for (const double count : row)
        if (!(count >= 0) || !std::isfinite(count)) return false;
    }
  }
  return true;
}

std::vector<double> row_sums(const Table& table) {
  std::vector<double> sums;
  for (const std::vector<double>& row : table) {
    sums.push_back(0);
    for (const double count : row) sums.back() += count;
  }
  return sums;
}

std::vector<double> column_sums(const Table& table) {
  std::vector<double> sums(table.size());
  for (const std::vector<double>& row : table)
    for (size_t j = 0; j < row.size(); ++j) sums[j] += row[j];
  return sums;
}

double sum(const std::vector<double>& values) {
  double total = 0;
  for (const double value : values) total += value;
  return total;
}

/// Where the experts of one column are.
struct Column {
  double x = 0;
  double unit = 0;             ///< of height, for one token
  std::vector<double> top;     ///< by expert
  std::vector<double> tokens;  ///< by expert
};

Column column_of(std::vector<double> tokens, size_t place, size_t columns) {
  Column c{.tokens = std::move(tokens)};
  c.x = 4 + static_cast<double>(place) * (width - bar - 8) / static_cast<double>(columns - 1);
  c.unit = (height - gap * static_cast<double>(c.tokens.size() - 1)) / sum(c.tokens);
  double y = 0;
  for (const double n : c.tokens) {
    c.top.push_back(y);
    y += n * c.unit + gap;
  }
  return c;
}

std::string bars_of(const Column& column) {
  std::string svg;
  for (size_t e = 0; e < column.top.size(); ++e)
    svg += fmt::format(
        "<rect class=\"bar\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{}\" height=\"{:.1f}\"><title>expert {}: "
        "{}</title></rect>",
        column.x, column.top[e], bar, column.tokens[e] * column.unit, e,
        share_text(column.tokens[e] / sum(column.tokens)));
  return svg;
}

/// The ribbons between two columns. Those with colour come last, so that they lie on top.
std::string ribbons(const Table& counts, const Column& left, const Column& right) {
  std::vector<double> from = left.top, to = right.top;
  const double all = sum(left.tokens), x0 = left.x + bar, x1 = right.x, middle = (x0 + x1) / 2;
  std::string plain, coloured;
  for (size_t e = 0; e < counts.size(); ++e) {
    for (size_t v = 0; v < counts.size(); ++v) {
      const double n = counts[e][v], thick = n * left.unit;
      const double y0 = from[e] + thick / 2, y1 = to[v] + n * right.unit / 2;
      from[e] += thick;
      to[v] += n * right.unit;
      if (thick < thinnest) continue;
      const double lift = n * all / (left.tokens[e] * right.tokens[v]);
      (lift > 2 ? coloured : plain) += fmt::format(
          "<path class=\"flow{}\" stroke-width=\"{:.1f}\" d=\"M{:.0f} {:.1f}C{:.0f} {:.1f} {:.0f} {:.1f} {:.0f} "
          "{:.1f}\"/>",
          lift > 2 ? " more" : "", thick, x0, y0, middle, y0, middle, y1, x1, y1);
    }
  }
  return plain + coloured;
}
}  // namespace

std::string flow_diagram_html(const FlowDiagram& diagram, size_t most_experts) {
  if (!usable(diagram) || sum(row_sums(diagram.counts.front())) <= 0) return "";
  const std::string caption = "<figcaption>" + escaped(diagram.title) + "</figcaption>";
  if (diagram.counts.front().size() > most_experts)
    return fmt::format("<figure>{}<p class=\"none\">{} experts are too many to be told apart here.</p></figure>",
                       caption, diagram.counts.front().size());
  const size_t count = diagram.layers.size();
  std::vector<Column> columns;
  for (size_t i = 0; i < count; ++i)
    columns.push_back(
        column_of(i == 0 ? row_sums(diagram.counts.front()) : column_sums(diagram.counts[i - 1]), i, count));
  std::string svg = fmt::format("<svg class=\"flows\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">", width,
                                height + below, escaped(diagram.title));
  for (size_t i = 0; i + 1 < count; ++i) svg += ribbons(diagram.counts[i], columns[i], columns[i + 1]);
  for (size_t i = 0; i < count; ++i) {
    const char* anchor = i == 0 ? "start" : i + 1 == count ? "end" : "middle";
    const double x = columns[i].x + (i == 0 ? 0 : i + 1 == count ? bar : bar / 2);
    svg += bars_of(columns[i]) +
           fmt::format("<text class=\"tick\" text-anchor=\"{}\" x=\"{:.1f}\" y=\"{}\">layer {}</text>", anchor, x,
                       height + below - 4, escaped(diagram.layers[i]));
  }
  return fmt::format(
      "<figure>{}{}</svg><p class=\"note\">Bars: experts, as high as their tokens are many (first choice). Orange: "
      "more "
      "than twice what chance gives.</p></figure>",
      caption, svg);
}

}  // namespace strand::run_report
