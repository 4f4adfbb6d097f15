#include "tasks/record.h"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "data/byte_source.h"
#include "data/utf8.h"

namespace strand {

namespace {
constexpr size_t longest_record = size_t{64} << 20;
constexpr int deepest_record = 64;
constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";

const char* kind_of(const nlohmann::ordered_json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  if (value.is_string()) return "a string";
  if (value.is_boolean()) return "true or false";
  if (value.is_null()) return "null";
  return "a number";
}

/// Calls `use` with each line, without its line break, until it returns false.
void for_each_line(const std::string& path, const std::function<bool(std::string_view line)>& use) {
  const std::unique_ptr<ByteSource> source = open_byte_source(path);
  std::string window(record_window_bytes, '\0'), line;
  uint64_t number = 1;
  bool first = true;
  const auto finish = [&] {
    std::string_view text = line;
    if (first && text.starts_with(byte_order_mark)) text.remove_prefix(byte_order_mark.size());
    first = false;
    if (text.ends_with('\r')) text.remove_suffix(1);
    ++number;
    const bool more = use(text);
    line.clear();
    return more;
  };
  while (const size_t got = source->read(window.data(), window.size())) {
    std::string_view rest(window.data(), got);
    for (size_t end; (end = rest.find('\n')) != rest.npos; rest.remove_prefix(end + 1)) {
      line.append(rest.substr(0, end));
      if (!finish()) return;
    }
    line.append(rest);
    require(line.size() <= longest_record, "{}: line {} is longer than {} bytes; is this a task file?", path, number,
            longest_record);
  }
  if (!line.empty()) finish();
}

nlohmann::ordered_json parse_record(std::string_view line, const std::string& where) {
  const size_t bad = first_invalid_utf8(line);
  require(bad == line.size(), "{}: not UTF-8 at byte {} of the line", where, bad);
  int depth = 0;
  const auto limit = [&](int level, nlohmann::ordered_json::parse_event_t, nlohmann::ordered_json&) {
    depth = std::max(depth, level);
    return true;
  };
  try {
    nlohmann::ordered_json record = nlohmann::ordered_json::parse(line, limit);
    require(record.is_object(), "{}: a JSON object was expected, this is {}", where, kind_of(record));
    require(depth <= deepest_record, "{}: JSON nested deeper than {} levels", where, deepest_record);
    return record;
  } catch (const nlohmann::json::exception& error) {
    std::string words = error.what();  // "[json.exception.parse_error.101] parse error at line 1, column 7: WORDS"
    words.erase(0, words.find("] ") + 2);
    constexpr std::string_view always = "line 1, ";
    if (const size_t at = words.find(always); at != words.npos) words.erase(at, always.size());
    fail("{}: bad JSON: {}", where, words);
  }
}
}  // namespace

// ---- fields ---------------------------------------------------------------------------------------------------------

void Field::refuse(const std::string& problem) const {
  if (path_.empty()) fail("{}: {}", where_, problem);
  fail("{}: \"{}\" {}", where_, path_, problem);
}

Field Field::operator[](const char* key) const {
  if (!value_->is_object()) refuse(fmt::format("is {}, not an object", kind_of(*value_)));
  const std::string path = path_.empty() ? key : path_ + "." + key;
  const auto member = value_->find(key);
  if (member == value_->end()) fail("{}: \"{}\" is missing", where_, path);
  return {*member, where_, path};
}

std::string Field::text() const {
  if (!value_->is_string()) refuse(fmt::format("is {}, not a string", kind_of(*value_)));
  return value_->get<std::string>();
}

std::string Field::text_or_empty() const {
  return value_->is_null() ? "" : text();
}

int64_t Field::integer() const {
  if (!value_->is_number_integer()) refuse(fmt::format("is {}, not a whole number", kind_of(*value_)));
  if (value_->is_number_unsigned() && value_->get<uint64_t>() > uint64_t{1} << 62) refuse("is too large");
  return value_->get<int64_t>();
}

std::vector<Field> Field::elements() const {
  if (!value_->is_array()) refuse(fmt::format("is {}, not an array", kind_of(*value_)));
  std::vector<Field> all;
  for (size_t i = 0; i < value_->size(); ++i) all.emplace_back((*value_)[i], where_, fmt::format("{}[{}]", path_, i));
  return all;
}

std::vector<std::string> Field::texts() const {
  std::vector<std::string> all;
  for (const Field& element : elements()) all.push_back(element.text());
  return all;
}

// ---- files ----------------------------------------------------------------------------------------------------------

void for_each_record(const std::string& path,
                     const std::function<bool(nlohmann::ordered_json record, const std::string& where)>& use) {
  uint64_t number = 0;
  for_each_line(path, [&](std::string_view line) {
    ++number;
    if (line.find_first_not_of(" \t\r") == line.npos) return true;
    const std::string where = fmt::format("{}: line {}", path, number);
    return use(parse_record(line, where), where);
  });
}

void for_each_row(const std::string& path,
                  const std::function<bool(std::vector<std::string> cells, const std::string& where)>& use) {
  std::vector<std::string> cells(1);
  uint64_t number = 0, begin = 1;
  bool quoted = false, stopped = false;
  for_each_line(path, [&](std::string_view line) {
    ++number;
    if (quoted) {
      cells.back() += '\n';
    } else {
      begin = number;
      if (line.empty()) return true;
    }
    for (size_t i = 0; i < line.size(); ++i) {
      const char c = line[i];
      if (c == '"' && quoted && i + 1 < line.size() && line[i + 1] == '"') {
        cells.back() += '"';
        ++i;
      } else if (c == '"' && (quoted || cells.back().empty())) {
        quoted = !quoted;
      } else if (c == ',' && !quoted) {
        cells.emplace_back();
      } else {
        cells.back() += c;
      }
    }
    if (quoted) return true;
    const std::string where = fmt::format("{}: line {}", path, begin);
    for (const std::string& cell : cells) require(first_invalid_utf8(cell) == cell.size(), "{}: not UTF-8", where);
    stopped = !use(std::move(cells), where);
    cells.assign(1, "");
    return !stopped;
  });
  require(!quoted || stopped, "{}: line {}: a cell's closing quote is missing", path, begin);
}

std::string find_record_file(const std::string& directory, const std::string& name) {
  for (const char* ending : {"", ".gz", ".zst"}) {
    const std::filesystem::path path = std::filesystem::path(directory) / (name + ending);
    if (std::filesystem::is_regular_file(path)) return path.string();
  }
  return "";
}

}  // namespace strand
