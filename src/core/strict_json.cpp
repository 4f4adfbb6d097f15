#include "core/strict_json.h"

#include <algorithm>
#include <set>
#include <vector>

#include "core/error.h"

namespace strand {

using nlohmann::json;

namespace {
constexpr int max_depth = 16;

/// Holds the keys of all objects that are open, the innermost last. It is filled from the parser's events, so that it
/// finds a duplicate before the parser replaces the first value.
class DuplicateGuard {
 public:
  explicit DuplicateGuard(const std::string& where) : where_(where) {}

  bool operator()(int depth, json::parse_event_t event, json& parsed) {
    using Event = json::parse_event_t;
    require(depth <= max_depth, "{}: JSON nested deeper than {}", where_, max_depth);
    if (event == Event::object_start) keys_.emplace_back();
    if (event == Event::object_end) keys_.pop_back();
    if (event == Event::key) {
      const bool first = keys_.back().insert(parsed.get<std::string>()).second;
      require(first, "{}: the key \"{}\" appears twice in one object", where_, parsed.get<std::string>());
    }
    return true;
  }

 private:
  const std::string& where_;
  std::vector<std::set<std::string>> keys_;
};
}  // namespace

json parse_strict_json(std::string_view text, const std::string& where) {
  // The library takes a zero byte for the end of the text, and would ignore what follows it.
  require(text.find('\0') == std::string_view::npos, "{}: a zero byte at offset {}", where, text.find('\0'));
  const size_t begin = std::min(text.find_first_not_of(" \t\r\n"), text.size());
  require(begin < text.size() && text[begin] == '{', "{}: does not begin with '{{'", where);
  DuplicateGuard guard(where);
  try {
    return json::parse(text.begin(), text.end(), std::ref(guard));
  } catch (const json::exception& e) {
    fail("{}: not valid JSON ({})", where, e.what());
  }
}

const json& json_object(const json& object, const char* key, const std::string& where) {
  const auto found = object.find(key);
  require(found != object.end() && found->is_object(), "{}: no object \"{}\"", where, key);
  return *found;
}

std::string json_string(const json& object, const char* key, const std::string& where) {
  const auto found = object.find(key);
  require(found != object.end() && found->is_string(), "{}: no string \"{}\"", where, key);
  return found->get<std::string>();
}

uint64_t json_unsigned(const json& object, const char* key, const std::string& where) {
  const auto found = object.find(key);
  require(found != object.end() && found->is_number_unsigned(), "{}: no whole number \"{}\" of at least 0", where, key);
  return found->get<uint64_t>();
}

}  // namespace strand
