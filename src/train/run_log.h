#pragma once
// log.jsonl: one JSON object a line and a step, keys in the order they were added, "step" first.
// Numbers are written in the shortest form that reads back to the same bits. JSON has no NaN and no infinity: a value
// that is not finite is written as null.
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "train/diagnostic_file.h"

namespace strand {

class LogRow {
 public:
  explicit LogRow(int64_t step);
  LogRow& add(std::string_view key, double value);
  LogRow& add(std::string_view key, int64_t value);
  LogRow& add(std::string_view key, int value) { return add(key, int64_t{value}); }
  LogRow& add(std::string_view key, std::string_view text);
  LogRow& add(std::string_view key, const char* text) { return add(key, std::string_view(text)); }
  LogRow& add(std::string_view key, std::span<const double> values);
  /// A matrix as an array of rows: `values` holds rows of `row_length` one after the other.
  LogRow& add(std::string_view key, std::span<const double> values, size_t row_length);

  /// {"name": value, ...}
  LogRow& add_object(std::string_view key, std::span<const std::pair<std::string_view, double>> members);

  std::string json() const { return text_ + "}"; }

 private:
  LogRow& add_raw(std::string_view key, std::string_view json_value);
  std::string text_;  ///< the object without its closing brace
};

class RunLog {
 public:
  static constexpr size_t copied_bytes = size_t{1} << 20;  ///< at a time, of a damaged log that is put aside

  /// Opens `path` for a run whose first row will have step `first_step`: rows from that step on (of an earlier run that
  /// got further than the checkpoint that this one continues) and a last line that was cut off are dropped, by an
  /// atomic rewrite. 0 starts an empty log.
  ///
  /// What is in the file never stops a run. Where it holds lines that are no rows, or rows whose steps do not ascend, a
  /// copy of the file as it was is kept beside it as `<path>.damaged` (`.damaged.2` and so on where such names are
  /// taken). The rows stay, in the order of their steps, and of several rows of a step the last one. A log that cannot
  /// be read at all gets such a name itself, and the run begins a new one. A log that can be read and not written gets
  /// such a name too, and its rows stay. All of this is said in a warning.
  RunLog(const std::string& path, int64_t first_step);

  /// When this returns, the system has the row, so that it survives a kill of the process. A row that the system does
  /// not take is written later (train/diagnostic_file.h).
  void write(const LogRow& row);
  /// Writes through to the disk. This comes before a checkpoint is committed, so that no log is behind its checkpoint
  /// as long as the system takes its rows.
  void sync();
  /// At the end of a run: throws Error when the file lacks rows.
  void finish();
  /// How many rows were dropped when the log was opened.
  int64_t dropped() const { return dropped_; }

 private:
  int64_t dropped_ = 0;
  std::unique_ptr<DiagnosticFile> file_;
};

}  // namespace strand
