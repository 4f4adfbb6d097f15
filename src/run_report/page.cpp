#include "run_report/page.h"

#include <fmt/core.h>

#include "run_report/assets.h"
#include "run_report/text.h"

namespace strand::run_report {

void Page::panel(const std::string& id, const std::string& title, const std::string& intro) {
  panels_.push_back({id, title, intro, {}});
}

void Page::text(const std::string& paragraph) {
  html("<p>" + escaped(paragraph) + "</p>");
}

void Page::nothing(const std::string& why) {
  html("<p class=\"none\">" + escaped(why) + "</p>");
}

void Page::chart(Chart chart) {
  html(figure_html(chart));
  charts_.push_back(std::move(chart));
}

void Page::table(const std::vector<std::vector<std::string>>& rows) {
  std::string body;
  for (size_t i = 0; i < rows.size(); ++i) {
    const char* cell = i == 0 ? "th" : "td";
    body += "<tr>";
    for (const std::string& text : rows[i]) body += fmt::format("<{}>{}</{}>", cell, text, cell);
    body += i == 0 ? "</tr></thead><tbody>" : "</tr>";
  }
  html("<div class=\"wide\"><table><thead>" + body + "</tbody></table></div>");
}

std::string Page::finish() const {
  std::string out =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
      "<meta name=\"color-scheme\" content=\"light dark\">";
  if (refresh_ > 0) out += fmt::format("<meta http-equiv=\"refresh\" content=\"{}\">", refresh_);
  // An icon of no bytes: browsers would ask for one otherwise.
  out += fmt::format("<link rel=\"icon\" href=\"data:,\"><title>{}</title>\n<style>", escaped(title_));
  out += std::string(dygraphs_style) + std::string(page_style) + "</style></head>\n<body><main>\n";
  for (const Panel& panel : panels_)
    out += fmt::format("<section id=\"{}\"><h2>{}</h2>{}{}</section>\n", panel.id, escaped(panel.title),
                       panel.intro.empty() ? "" : "<p class=\"intro\">" + escaped(panel.intro) + "</p>", panel.body);
  size_t lines = 0;
  for (const Chart& chart : charts_) lines += chart.lines.size();
  std::string data;
  for (const Chart& chart : charts_) data += (data.empty() ? "" : ",\n") + figure_data(chart, points_of_a_line(lines));
  // Names in the data may hold "</script>", which would end the element.
  std::string safe;
  for (const char c : data) safe += c == '<' ? std::string("\\u003c") : std::string(1, c);
  out += "</main>\n<script type=\"application/json\" id=\"data\">{" + safe + "}</script>\n";
  if (!dygraphs_script.empty())
    out += "<script>" + std::string(dygraphs_script) + "</script>\n<script>" + std::string(page_script) + "</script>\n";
  return out + "</body></html>\n";
}

}  // namespace strand::run_report
