// Numbers of a report: series, intervals, pictures as bytes.
#include <algorithm>
#include <cmath>
#include <limits>

#include "run_report/chart.h"
#include "run_report/heat_map.h"
#include "run_report/series.h"
#include "run_report/student.h"
#include "run_report/text.h"
#include "tests/catch.h"

using namespace strand::run_report;

namespace {
constexpr double no_number = std::numeric_limits<double>::quiet_NaN();

Series series_of(const std::vector<double>& values) {
  Series series;
  for (size_t i = 0; i < values.size(); ++i) series.add(static_cast<double>(i), values[i]);
  return series;
}
}  // namespace

TEST_CASE("smoothing is the mean about a point, of what is there") {
  const Series out = smoothed(series_of({1, 2, 3, no_number, 5, 6, 7, 8, 9, 10}), 0.2);  // one point to each side
  CHECK(out.values[0] == Approx(1.5));
  CHECK(out.values[1] == Approx(2));
  CHECK(out.values[3] == Approx(4));
  CHECK(out.values[9] == Approx(9.5));
  CHECK(std::isnan(smoothed(series_of({no_number, no_number}), 0.5).values[0]));
}

TEST_CASE("thinning keeps ends of every part, spikes and gaps, in order") {
  std::vector<double> values(10'000, 1.0);
  values[4321] = 50;
  values[4322] = -50;
  values[7000] = no_number;
  const Series out = thinned(series_of(values), 200);
  CHECK(out.size() <= 200);
  CHECK(std::is_sorted(out.steps.begin(), out.steps.end()));
  CHECK(std::count(out.values.begin(), out.values.end(), 50.0) == 1);
  CHECK(std::count(out.values.begin(), out.values.end(), -50.0) == 1);
  CHECK(std::count_if(out.values.begin(), out.values.end(), [](double x) { return std::isnan(x); }) == 1);
  CHECK(thinned(series_of({1, 2, 3}), 4).size() == 3);
}

TEST_CASE("the mean of runs stands at the steps that all have, within their range") {
  const Band band = mean_of({series_of({1, 2, 3}), series_of({3, 6})});
  CHECK(band.middle.steps == std::vector<double>{0, 1});
  CHECK(band.middle.values == std::vector<double>{2, 4});
  CHECK(band.low == std::vector<double>{1, 2});
  CHECK(band.high == std::vector<double>{3, 6});
  CHECK(mean_of({series_of({1, 2})}).low.empty());
}

TEST_CASE("late means and last values leave out what is not finite") {
  CHECK(late_mean(series_of({100, 100, 100, 1, no_number, 3}), 0.5) == Approx(2));
  CHECK(last_value(series_of({1, 2, no_number})) == 2);
  CHECK(std::isnan(last_value({})));
}

TEST_CASE("Student's t is that of printed tables") {
  CHECK(student_quantile(0.95, 1) == Approx(12.706).epsilon(1e-4));
  CHECK(student_quantile(0.95, 2) == Approx(4.303).epsilon(1e-4));
  CHECK(student_quantile(0.95, 7) == Approx(2.365).epsilon(1e-3));
  CHECK(student_quantile(0.99, 10) == Approx(3.169).epsilon(1e-3));
  // 1 .. 5: mean 3, deviation sqrt(2.5), t = 3 / sqrt(2.5 / 5) = 4.2426 with 4 degrees: p = 0.0132.
  const MeanInterval m = mean_interval({1, 2, 3, 4, 5}, 0.95);
  CHECK(m.low == Approx(3 - 2.776 * std::sqrt(0.5)).epsilon(1e-3));
  CHECK(m.sd == Approx(std::sqrt(2.5)));
  CHECK(m.p == Approx(0.01324).epsilon(1e-3));
  CHECK(mean_interval({0.5, 0.5}, 0.95).p == 0);
}

TEST_CASE("numbers are written with the digits that were asked for") {
  CHECK(number_text(4.27531) == "4.275");
  CHECK(number_text(71.897) == "71.90");
  CHECK(number_text(12345.6) == "12346");
  CHECK(number_text(0.0012345, 3) == "0.00123");
  CHECK(number_text(0.123456, 3) == "0.123");
  CHECK(number_text(0) == "0");
  CHECK(number_text(no_number) == "–");
  CHECK(number_text(2.5e-6, 3) == "2.50e-06");
  CHECK(escaped("a<b & \"c\">") == "a&lt;b &amp; &quot;c&quot;&gt;");
}

TEST_CASE("base64 of RFC 4648") {
  const std::vector<std::pair<std::string, std::string>> examples = {
      {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"foobar", "Zm9vYmFy"}};
  for (const auto& [text, code] : examples) CHECK(base64(text) == code);
}

TEST_CASE("a chart's data has gaps for what is not a number and null where a line has no point") {
  Chart chart{.id = "x", .title = "t"};
  chart.lines.push_back({"a", 0, Stroke::full, {{{1, 2}, {0.5, no_number}}, {}, {}}});
  chart.lines.push_back({"b", 1, Stroke::dashed, {{{2, 3}, {1, 2}}, {}, {}}});
  const std::string data = figure_data(chart, 100);
  CHECK(data.find("\"rows\":[[1,0.5,null],[2,\"\",1],[3,null,2]]") != std::string::npos);
  CHECK(data.find("\"looks\":[[0,\"\"],[1,\"dashed\"]]") != std::string::npos);
}

TEST_CASE("a line that is constant apart from rounding has a picture") {
  Chart chart{.id = "x", .title = "t"};
  chart.lines.push_back(
      {"a", 0, Stroke::full, {{{1, 2, 3}, {0.1, std::nextafter(0.1, 1), std::nextafter(0.1, 0)}}, {}, {}}});
  CHECK(figure_html(chart).size() < 5000);
  chart.from_zero = FromZero::yes;
  CHECK(figure_html(chart).size() < 5000);
}

TEST_CASE("maps of many cells become one picture, whose bytes begin as a PNG's do") {
  HeatMap map{.title = "m", .row_word = "r", .column_word = "c"};
  map.values.assign(80, std::vector<double>(80, 1.0));
  map.row_names.assign(80, "x");
  const std::string html = heat_map_html(map);
  CHECK(html.find("data:image/png;base64,iVBORw0KGgo") != std::string::npos);
  CHECK(html.find("<rect") == std::string::npos);
  CHECK(html.size() < 20'000);
}
