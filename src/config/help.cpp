// The table of keys as text.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "config/keys.h"
#include "config/schema.h"

namespace strand {
namespace schema {
namespace {

struct TypeText {
  std::string operator()(const IntegerField&) const { return "integer"; }
  std::string operator()(const FloatField&) const { return "float"; }
  std::string operator()(const BoolField&) const { return "bool"; }
  std::string operator()(const StringField&) const { return "string"; }
  std::string operator()(const ChoiceField&) const { return "choice"; }
  std::string operator()(const SourcesField&) const { return "sources"; }
};

std::string interval_text(const Interval& range) {
  const bool closed_below = range.min_bound == Bound::closed;
  if (std::isinf(range.min) && std::isinf(range.max)) return "any number";
  if (std::isinf(range.max)) return fmt::format("{} {}", closed_below ? ">=" : ">", range.min);
  return fmt::format("{}{}, {}{}", closed_below ? "[" : "(", range.min, range.max,
                     range.max_bound == Bound::closed ? "]" : ")");
}

struct RangeText {
  std::string operator()(const IntegerField& f) const { return fmt::format("{} .. {}", f.min, f.max); }
  std::string operator()(const FloatField& f) const { return interval_text(f.range); }
  std::string operator()(const BoolField&) const { return "true | false"; }
  std::string operator()(const StringField&) const { return "text"; }
  std::string operator()(const ChoiceField& f) const { return fmt::format("{}", fmt::join(f.choices, " | ")); }
  std::string operator()(const SourcesField&) const { return "path | [path, ...] | [{path, weight, format}, ...]"; }
};

struct Choices {
  std::vector<std::string> operator()(const BoolField&) const { return {"true", "false"}; }
  std::vector<std::string> operator()(const ChoiceField& f) const { return f.choices; }
  template <typename Field>
  std::vector<std::string> operator()(const Field&) const {
    return {};
  }
};

std::string default_text(const Key& key) {
  if (key.presence == Presence::required) return "required";
  return key.derived_default.empty() ? value_text(key, Config{}) : key.derived_default;
}

}  // namespace

std::string type_text(const Key& key) {
  return std::visit(TypeText{}, key.field);
}

std::string range_text(const Key& key) {
  return std::visit(RangeText{}, key.field);
}

}  // namespace schema

std::vector<KeyText> config_keys() {
  std::vector<KeyText> all;
  for (const schema::Key& key : schema::keys()) {
    all.push_back({key.path(), schema::type_text(key), schema::default_text(key), schema::range_text(key), key.meaning,
                   std::visit(schema::Choices{}, key.field)});
  }
  return all;
}

std::string config_help() {
  using Row = std::array<std::string, 5>;
  std::vector<Row> rows = {{"key", "type", "default", "range", "meaning"}};
  for (const KeyText& key : config_keys())
    rows.push_back({key.path, key.type, key.default_value, key.range, key.meaning});
  std::array<size_t, 4> width{};
  for (const Row& row : rows) {
    for (size_t i = 0; i < width.size(); ++i) width[i] = std::max(width[i], row[i].size());
  }
  std::string text;
  std::string group;
  for (const Row& row : rows) {
    const std::string row_group = row[0].substr(0, row[0].find('.'));
    if (!text.empty() && row_group != group) text += "\n";
    group = row_group;
    for (size_t i = 0; i < width.size(); ++i) text += fmt::format("{:<{}}  ", row[i], width[i]);
    text += row[4] + "\n";
  }
  return text;
}

}  // namespace strand
