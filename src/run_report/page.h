#pragma once
// One HTML page of panels that refers to nothing outside itself. The same calls give the same bytes.
#include <cstdint>
#include <string>
#include <vector>

#include "run_report/chart.h"

namespace strand::run_report {

class Page {
 public:
  explicit Page(std::string title) : title_(std::move(title)) {}

  /// Seconds after which a browser reads the page again; 0 = never.
  void refresh_every(int64_t seconds) { refresh_ = seconds; }
  /// Begins a panel. `intro`: one sentence of how to read it, or "".
  void panel(const std::string& id, const std::string& title, const std::string& intro);
  /// Into the panel that was begun last.
  void html(const std::string& text) { panels_.back().body += text; }
  void text(const std::string& paragraph);
  /// That the panel has nothing, and what would make it.
  void nothing(const std::string& why);
  void chart(Chart chart);
  /// The first row is the head; cells are HTML, so what is not a number is escaped by the caller.
  void table(const std::vector<std::vector<std::string>>& rows);

  std::string finish() const;

 private:
  struct Panel {
    std::string id, title, intro, body;
  };
  std::string title_;
  int64_t refresh_ = 0;
  std::vector<Panel> panels_;
  std::vector<Chart> charts_;
};

}  // namespace strand::run_report
