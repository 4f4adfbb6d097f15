#include "train/run_log.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"

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

/// The step of a row. Throws Error naming file and line.
int64_t step_of_row(const std::string& row, const std::string& path, int64_t line) {
  const auto object = nlohmann::json::parse(row, nullptr, false);
  const bool valid = object.is_object() && object.contains("step") && object["step"].is_number_integer();
  require(valid, "{}:{}: not a log row (an object with a whole number \"step\"); repair or remove the file", path,
          line);
  return object["step"].get<int64_t>();
}

/// Copies the rows before `first_step` into a new file that takes the place of `path`. Returns how many were dropped.
int64_t keep_rows_before(const std::string& path, int64_t first_step) {
  std::ifstream in(path, std::ios::binary);
  require(in.good(), "cannot read {}", path);
  AtomicFile kept(path);
  int64_t dropped = 0;
  std::string row;
  for (int64_t line = 1; std::getline(in, row); ++line) {
    const bool cut_off = in.eof();  // no newline after it: its writer was killed
    if (cut_off || step_of_row(row, path, line) >= first_step) {
      ++dropped;
      continue;
    }
    kept.write(row + "\n");
  }
  require(!in.bad(), "cannot read {}", path);
  if (dropped > 0) kept.commit();
  return dropped;
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
  if (std::filesystem::exists(path)) dropped_ = keep_rows_before(path, first_step);
  file_ = std::make_unique<AppendFile>(path);
}

void RunLog::write(const LogRow& row) {
  file_->write(row.json() + "\n");
}
void RunLog::sync() {
  file_->sync();
}

}  // namespace strand
