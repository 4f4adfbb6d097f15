#include "train/run_log.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "core/error.h"
#include "core/log.h"

namespace strand {

namespace {
std::string number(double value) {
  return std::isfinite(value) ? fmt::format("{}", value) : "null";
}

std::string array(std::span<const double> values) {
  std::string text = "[";
  for (size_t i = 0; i < values.size(); ++i) {
    if (i > 0) text += ',';
    text += number(values[i]);
  }
  return text += ']';
}

/// The step of a row. None when the line is no row: a row is an object with a whole number "step" of at least 0.
std::optional<int64_t> step_of_row(const std::string& line) {
  const auto object = nlohmann::json::parse(line, nullptr, false);
  if (!object.is_object() || !object.contains("step")) return {};
  const auto& step = object["step"];
  if (!step.is_number_unsigned() || step.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) return {};
  return step.get<int64_t>();
}

/// A name beside `path` that no file has yet.
std::string name_for_damaged(const std::string& path) {
  std::string name = path + ".damaged";
  for (int i = 2; std::filesystem::exists(std::filesystem::symlink_status(name)); ++i)
    name = fmt::format("{}.damaged.{}", path, i);
  return name;
}

void copy_file(const std::string& from, const std::string& to) {
  std::ifstream in(from, std::ios::binary);
  AtomicFile out(to);
  std::vector<char> block(RunLog::copied_bytes);
  while (in.read(block.data(), static_cast<std::streamsize>(block.size())) || in.gcount() > 0)
    out.write(block.data(), static_cast<size_t>(in.gcount()));
  require(!in.bad(), "cannot read {}", from);
  out.commit();
}

/// "2, 5, 9 and 7 more"
std::string list_of_lines(const std::vector<int64_t>& lines) {
  constexpr size_t most = 5;
  std::string text;
  for (size_t i = 0; i < std::min(most, lines.size()); ++i) text += fmt::format("{}{}", i > 0 ? ", " : "", lines[i]);
  return lines.size() > most ? fmt::format("{} and {} more", text, lines.size() - most) : text;
}

struct Sorted {
  int64_t dropped = 0;           ///< rows from `first_step` on, and a last line that was cut off
  std::vector<int64_t> foreign;  ///< numbers, from 1, of the lines that are no rows
  bool ascending = true;         ///< the steps of the rows before `first_step`
};

/// Calls `keep` with the step and the text of each row before `first_step`. Throws Error when the file cannot be read.
template <typename Keep>
Sorted sort_lines(const std::string& path, int64_t first_step, const Keep& keep) {
  std::ifstream in(path, std::ios::binary);
  require(in.good(), "cannot read {}", path);
  Sorted sorted;
  std::string line;
  int64_t before = -1;
  for (int64_t number = 1; std::getline(in, line); ++number) {
    const bool cut_off = in.eof();  // no newline after it: its writer was killed
    const std::optional<int64_t> step = cut_off ? std::nullopt : step_of_row(line);
    if (step && *step < first_step) {
      keep(*step, line);
      sorted.ascending &= *step > before;
      before = *step;
    } else if (step || cut_off) {
      ++sorted.dropped;
    } else {
      sorted.foreign.push_back(number);
    }
  }
  require(!in.bad(), "cannot read {}", path);
  return sorted;
}

/// The rows before `first_step`, one for each step, in the order of their steps.
std::string rows_in_order(const std::string& path, int64_t first_step) {
  std::map<int64_t, std::string> rows;
  sort_lines(path, first_step, [&](int64_t step, const std::string& row) { rows[step] = row; });
  std::string text;
  for (const auto& [step, row] : rows) text += row + "\n";
  return text;
}

/// "2 lines that are no rows of a log (line 3, 7), and rows that are not in order"
std::string damage_of(const Sorted& sorted) {
  std::string text;
  if (!sorted.foreign.empty())
    text = fmt::format("{} of a log (line {})",
                       sorted.foreign.size() == 1 ? "a line that is no row"
                                                  : fmt::format("{} lines that are no row", sorted.foreign.size()),
                       list_of_lines(sorted.foreign));
  if (!sorted.ascending) text += fmt::format("{}rows whose steps do not ascend", text.empty() ? "" : ", and ");
  return text;
}

/// Copies the rows before `first_step` into a new file that takes the place of `path`. Returns how many were dropped.
int64_t keep_rows_before(const std::string& path, int64_t first_step) {
  std::optional<AtomicFile> kept;
  kept.emplace(path);
  const Sorted sorted = sort_lines(path, first_step, [&](int64_t, const std::string& row) { kept->write(row + "\n"); });
  if (!sorted.ascending) {
    kept.reset();
    kept.emplace(path);
    kept->write(rows_in_order(path, first_step));
  }
  if (const std::string damage = damage_of(sorted); !damage.empty()) {
    const std::string aside = name_for_damaged(path);
    copy_file(path, aside);
    log_warning(fmt::format("{}: {}; the rows stay, and the file as it was is {}", path, damage, aside));
    kept->commit();
  } else if (sorted.dropped > 0) {
    kept->commit();
  }
  return sorted.dropped;
}

/// Whether the file can be read to its end. A file that cannot is renamed, to make room for a new log.
bool readable(const std::string& path) {
  try {
    std::error_code ignored;
    require(std::filesystem::is_regular_file(path, ignored), "{} is not a regular file", path);
    sort_lines(path, 0, [](int64_t, const std::string&) {});
    return true;
  } catch (const Error& error) {
    const std::string aside = name_for_damaged(path);
    rename_path(path, aside);
    log_warning(fmt::format("{}; it is now {}, and a new log begins", error.what(), aside));
    return false;
  }
}

/// Opens the log for its rows. A log that cannot be written (a file that was protected) is renamed, and a copy of it
/// takes its place.
std::unique_ptr<DiagnosticFile> open_for_rows(const std::string& path) {
  try {
    return std::make_unique<DiagnosticFile>(path);
  } catch (const Error& error) {
    if (!std::filesystem::exists(path)) throw;
    const std::string aside = name_for_damaged(path);
    rename_path(path, aside);
    copy_file(aside, path);
    log_warning(fmt::format("{}; it is now {}, and a copy takes its place", error.what(), aside));
    return std::make_unique<DiagnosticFile>(path);
  }
}
}  // namespace

LogRow::LogRow(int64_t step) : text_(fmt::format("{{\"step\":{}", step)) {}

LogRow& LogRow::add_raw(std::string_view key, std::string_view json_value) {
  text_ += fmt::format(",{}:{}", nlohmann::json(key).dump(), json_value);
  return *this;
}

LogRow& LogRow::add(std::string_view key, double value) {
  return add_raw(key, number(value));
}
LogRow& LogRow::add(std::string_view key, int64_t value) {
  return add_raw(key, std::to_string(value));
}
LogRow& LogRow::add(std::string_view key, std::string_view text) {
  return add_raw(key, nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}
LogRow& LogRow::add(std::string_view key, std::span<const double> values) {
  return add_raw(key, array(values));
}

LogRow& LogRow::add(std::string_view key, std::span<const double> values, size_t row_length) {
  require(row_length > 0 && values.size() % row_length == 0, "log value {}: {} numbers are no rows of {}", key,
          values.size(), row_length);
  std::string text = "[";
  for (size_t i = 0; i < values.size(); i += row_length) {
    if (i > 0) text += ',';
    text += array(values.subspan(i, row_length));
  }
  return add_raw(key, text += ']');
}

LogRow& LogRow::add_object(std::string_view key, std::span<const std::pair<std::string_view, double>> members) {
  std::string text = "{";
  for (const auto& [name, value] : members) {
    if (text.size() > 1) text += ',';
    text += nlohmann::json(name).dump() + ':' + number(value);
  }
  return add_raw(key, text += '}');
}

RunLog::RunLog(const std::string& path, int64_t first_step) {
  if (std::filesystem::exists(std::filesystem::symlink_status(path)) && readable(path))
    dropped_ = keep_rows_before(path, first_step);
  file_ = open_for_rows(path);
}

void RunLog::write(const LogRow& row) {
  file_->write(row.json() + "\n");
}
void RunLog::sync() {
  file_->sync();
}
void RunLog::finish() {
  file_->finish();
}

}  // namespace strand
