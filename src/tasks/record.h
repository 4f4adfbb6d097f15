#pragma once
// Records of task files: JSON objects, one a line, and rows of CSV. Every error names the file, the line and the field.
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace strand {

inline constexpr size_t record_window_bytes = size_t{1} << 16;  ///< of a task file, read at a time

/// A JSON value of a record, which knows where it is: "data/piqa.jsonl: line 7: "goal"".
class Field {
 public:
  /// `where` is "FILE: line N"; `path` is "" for the record itself, "choices.text" for a part of it.
  Field(const nlohmann::ordered_json& value, std::string where, std::string path = "")
      : value_(&value), where_(std::move(where)), path_(std::move(path)) {}

  const nlohmann::ordered_json& value() const { return *value_; }
  const std::string& where() const { return where_; }
  bool has(const char* key) const { return value_->is_object() && value_->contains(key); }

  // Each throws Error when the value is missing or of another kind.
  Field operator[](const char* key) const;
  std::string text() const;                ///< a string
  std::string text_or_empty() const;       ///< a string; null = ""
  int64_t integer() const;                 ///< a whole number
  std::vector<std::string> texts() const;  ///< an array of strings
  std::vector<Field> elements() const;     ///< an array

  /// Throws Error: `FILE: line N: "path" PROBLEM`.
  [[noreturn]] void refuse(const std::string& problem) const;

 private:
  const nlohmann::ordered_json* value_;
  std::string where_;
  std::string path_;
};

/// Calls `use` with every object of a .jsonl (plain, .gz or .zst; blank lines are skipped) until it returns false.
/// Throws Error for a line that is no JSON object in UTF-8.
void for_each_record(const std::string& path,
                     const std::function<bool(nlohmann::ordered_json record, const std::string& where)>& use);

/// Calls `use` with the cells of every row of a CSV file (RFC 4180: cells in double quotes may hold commas, line breaks
/// and, written twice, double quotes).
void for_each_row(const std::string& path,
                  const std::function<bool(std::vector<std::string> cells, const std::string& where)>& use);

/// The file DIRECTORY/NAME, plain or with .gz or .zst; "" when there is none.
std::string find_record_file(const std::string& directory, const std::string& name);

}  // namespace strand
