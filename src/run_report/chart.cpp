#include "run_report/chart.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "run_report/text.h"

namespace strand::run_report {

namespace {
// The picture in its own units.
constexpr double width = 560, height = 230, left = 52, right = 10, top = 8, bottom = 24;
constexpr size_t picture_points = 400;  ///< of a line

struct Range {
  double from = std::numeric_limits<double>::infinity(), to = -std::numeric_limits<double>::infinity();
  void take(double x) {
    if (!std::isfinite(x)) return;
    from = std::min(from, x);
    to = std::max(to, x);
  }
  bool empty() const { return from > to; }
  /// Never of no width.
  void widen() {
    if (empty()) *this = {0, 1};
    // A constant, apart from the rounding of means.
    if (to - from <= 1e-9 * std::max(std::abs(from), std::abs(to))) {
      const double pad = std::abs(from) * 0.1;
      from -= pad;
      to += pad > 0 ? pad : 1;
    }
  }
};

/// A distance between ticks of 1, 2 or 5 times a power of ten, for about `count` ticks.
double tick_distance(const Range& range, int count) {
  const double raw = (range.to - range.from) / count;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (raw <= factor * power) return factor * power;
  return 10 * power;
}

/// As many decimals as tell ticks apart.
std::string tick_text(double value, double distance) {
  if (std::abs(value) < distance / 1000) value = 0;
  if (distance < 1e-5 || std::abs(value) >= 1e6) {
    const double digits = value == 0 ? 0 : std::ceil(std::log10(std::abs(value) / distance)) + 1;
    return fmt::format("{:.{}g}", value, std::clamp(static_cast<int>(digits), 3, 17));
  }
  return fmt::format("{:.{}f}", value, std::max(0, static_cast<int>(std::ceil(-std::log10(distance) - 1e-9))));
}

struct Frame {
  Range x, y;
  double px(double step) const { return left + (step - x.from) / (x.to - x.from) * (width - left - right); }
  double py(double value) const {
    return height - bottom - (std::clamp(value, y.from, y.to) - y.from) / (y.to - y.from) * (height - top - bottom);
  }
};

Frame frame_of(const Chart& chart) {
  Frame frame;
  for (const Line& line : chart.lines) {
    for (const double step : line.band.middle.steps) frame.x.take(step);
    for (const auto* values : {&line.band.middle.values, &line.band.low, &line.band.high})
      for (const double value : *values) frame.y.take(value);
  }
  if (chart.from_zero == FromZero::yes) frame.y.take(0);
  if (chart.top && !frame.y.empty()) frame.y.to = std::max(frame.y.from, std::min(frame.y.to, *chart.top));
  frame.x.widen();
  frame.y.widen();
  const double pad = (frame.y.to - frame.y.from) * 0.04;
  if (!(chart.from_zero == FromZero::yes && frame.y.from == 0)) frame.y.from -= pad;
  if (!chart.top) frame.y.to += pad;
  return frame;
}

std::string axes(const Frame& f) {
  std::string svg;
  const double dy = tick_distance(f.y, 5), dx = tick_distance(f.x, 6);
  for (double v = std::ceil(f.y.from / dy - 1e-9) * dy; v <= f.y.to + dy * 1e-9; v += dy)
    svg += fmt::format(
        "<path class=\"grid\" d=\"M{} {:.1f}H{}\"/><text class=\"tick\" text-anchor=\"end\" x=\"{}\" "
        "y=\"{:.1f}\">{}</text>",
        left, f.py(v), width - right, left - 5, f.py(v) + 3.5, tick_text(v, dy));
  for (double v = std::ceil(f.x.from / dx - 1e-9) * dx; v <= f.x.to + dx * 1e-9; v += dx)
    svg += fmt::format("<text class=\"tick\" text-anchor=\"middle\" x=\"{:.1f}\" y=\"{}\">{}</text>", f.px(v),
                       height - 8, tick_text(v, dx));
  return svg + fmt::format("<path class=\"axis\" d=\"M{} {}H{}\"/>", left, height - bottom, width - right);
}

/// A path through the points; a value that is not finite leaves a gap. Lone points between gaps are dots.
std::string path_through(const Frame& f, const Series& series) {
  std::string path;
  for (size_t i = 0; i < series.size(); ++i) {
    if (!std::isfinite(series.values[i])) continue;
    const bool starts = i == 0 || !std::isfinite(series.values[i - 1]);
    path += fmt::format("{}{:.1f} {:.1f}", starts ? "M" : "L", f.px(series.steps[i]), f.py(series.values[i]));
    if (starts && (i + 1 == series.size() || !std::isfinite(series.values[i + 1]))) path += "h0";
  }
  return path;
}

std::string range_of(const Frame& f, const Line& line) {
  if (line.band.low.empty()) return "";
  const Series& middle = line.band.middle;
  const size_t n = middle.size(), stride = std::max<size_t>(1, n / picture_points);
  std::string there, back;
  for (size_t i = 0; i < n; i += stride) {
    if (!std::isfinite(line.band.low[i]) || !std::isfinite(line.band.high[i])) continue;
    const double x = f.px(middle.steps[i]);
    there += fmt::format("{}{:.1f} {:.1f}", there.empty() ? "M" : "L", x, f.py(line.band.high[i]));
    back = fmt::format("L{:.1f} {:.1f}", x, f.py(line.band.low[i])) + back;
  }
  return there.empty() ? "" : fmt::format("<path class=\"band c{}\" d=\"{}{}Z\"/>", line.color, there, back);
}

const char* stroke_class(Stroke stroke) {
  return stroke == Stroke::faint ? " faint" : stroke == Stroke::dashed ? " dashed" : "";
}

std::string picture(const Chart& chart) {
  const Frame frame = frame_of(chart);
  std::string svg = fmt::format("<svg class=\"still\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">", width,
                                height, escaped(chart.title)) +
                    axes(frame);
  for (const Line& line : chart.lines) svg += range_of(frame, line);
  for (const Line& line : chart.lines)
    svg += fmt::format("<path class=\"line c{}{}\" d=\"{}\"/>", line.color, stroke_class(line.stroke),
                       path_through(frame, thinned(line.band.middle, picture_points)));
  return svg + "</svg>";
}

std::string legend(const Chart& chart) {
  std::string html;
  for (const Line& line : chart.lines)
    html +=
        fmt::format("<li><i class=\"c{}{}\"></i>{}</li>", line.color, stroke_class(line.stroke), escaped(line.name));
  return "<ul class=\"legend\">" + html + "</ul>";
}

/// JSON has no NaN. In the page's data "" stands for a value that is not a number, which leaves a gap, and null for no
/// value at this step.
std::string json_number(double value) {
  return std::isfinite(value) ? fmt::format("{:.6g}", value) : "\"\"";
}

/// Of a band: every so many points. Of a line: least and greatest.
Band thin_band(const Band& band, size_t most) {
  if (band.low.empty()) return {thinned(band.middle, most), {}, {}};
  const size_t stride = std::max<size_t>(1, (band.middle.size() + most - 1) / most);
  Band out;
  for (size_t i = 0; i < band.middle.size(); i += stride) {
    out.middle.add(band.middle.steps[i], band.middle.values[i]);
    out.low.push_back(band.low[i]);
    out.high.push_back(band.high[i]);
  }
  return out;
}
}  // namespace

size_t points_of_a_line(size_t lines_of_page) {
  constexpr size_t most = 2000, least = 100, in_all = 24'000;
  return std::clamp(in_all / std::max<size_t>(1, lines_of_page), least, most);
}

std::string figure_html(const Chart& chart) {
  bool empty = true;
  for (const Line& line : chart.lines) empty = empty && line.band.middle.empty();
  if (empty)
    return fmt::format("<figure><figcaption>{}</figcaption><p class=\"none\">Nothing was logged.</p></figure>",
                       escaped(chart.title));
  return fmt::format(
      "<figure id=\"{}\"><figcaption>{}</figcaption>{}<div class=\"plot\">{}</div><p class=\"readout\"></p>{}</figure>",
      chart.id, escaped(chart.title), chart.lines.size() > 1 ? legend(chart) : "", picture(chart),
      chart.note.empty() ? "" : "<p class=\"note\">" + escaped(chart.note) + "</p>");
}

std::string figure_data(const Chart& chart, size_t most) {
  const size_t n = chart.lines.size();
  const bool ranges =
      std::any_of(chart.lines.begin(), chart.lines.end(), [](const Line& line) { return !line.band.low.empty(); });
  std::map<double, std::vector<std::string>> rows;
  for (size_t k = 0; k < n; ++k) {
    const Band band = thin_band(chart.lines[k].band, most);
    for (size_t i = 0; i < band.middle.size(); ++i) {
      std::vector<std::string>& row = rows[band.middle.steps[i]];
      row.resize(n, "null");
      const double middle = band.middle.values[i];
      row[k] = json_number(middle);
      if (!ranges) continue;
      const double low = band.low.empty() ? middle : band.low[i], high = band.high.empty() ? middle : band.high[i];
      row[k] = fmt::format("[{},{},{}]", json_number(low), row[k], json_number(high));
    }
  }
  std::string names, looks, values;
  for (const Line& line : chart.lines) {
    names += (names.empty() ? "" : ",") + nlohmann::json(line.name).dump();
    looks += fmt::format("{}[{},\"{}\"]", looks.empty() ? "" : ",", line.color,
                         line.stroke == Stroke::full ? "" : stroke_class(line.stroke) + 1);
  }
  for (const auto& [step, row] : rows) {
    values += fmt::format("{}[{:.10g}", values.empty() ? "" : ",", step);
    for (const std::string& cell : row) values += "," + cell;
    values += "]";
  }
  const Frame frame = frame_of(chart);
  return fmt::format("\"{}\":{{\"names\":[{}],\"looks\":[{}],\"ranges\":{},\"y\":[{:.6g},{:.6g}],\"rows\":[{}]}}",
                     chart.id, names, looks, ranges, frame.y.from, frame.y.to, values);
}

}  // namespace strand::run_report
