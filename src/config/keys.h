#pragma once
// The table of configuration keys, and everything that can be said about one key without looking at others. This header
// is private to config/.
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "config/config.h"

namespace strand::schema {

/// Reads and writes one member of a Config as a T.
template <typename T>
struct Access {
  T (*get)(const Config&);
  void (*set)(Config&, const T&);
};

enum class Bound { closed, open };

struct Interval {
  double min;
  Bound min_bound;
  double max;  ///< may be infinity
  Bound max_bound;
};

struct IntegerField : Access<int64_t> {
  int64_t min;
  int64_t max;
};
struct FloatField : Access<double> {
  Interval range;
};
struct BoolField : Access<bool> {};
struct StringField : Access<std::string> {};
/// An enumeration. Its value is an index of `choices`.
struct ChoiceField : Access<size_t> {
  std::vector<std::string> choices;
};
struct SourcesField : Access<std::vector<DataSource>> {};

using Field = std::variant<IntegerField, FloatField, BoolField, StringField, ChoiceField, SourcesField>;

enum class Presence { optional, required };

struct Key {
  std::string group;  ///< "model"
  std::string name;   ///< "hidden_size"
  Field field;
  std::string meaning;
  Presence presence = Presence::optional;
  std::string derived_default = {};  ///< in words, when the default follows from other keys

  std::string path() const { return group + "." + name; }
};

/// All keys, group by group, in the order in which they are written and explained.
const std::vector<Key>& keys();
/// The groups, in order.
const std::vector<std::string>& groups();
/// nullptr when there is no such key.
const Key* find_key(const std::string& group, const std::string& name);
const std::vector<std::string>& source_formats();

/// "integer", "float", ...
std::string type_text(const Key& key);
/// "1 .. 4096", "(0, 1]", "cpu | cuda", ...
std::string range_text(const Key& key);
/// The key's value in `config` as YAML in flow style. Numbers keep all bits.
std::string value_text(const Key& key, const Config& config);

/// What is wrong with the key's own value (it is out of its range), or "".
std::string value_problem(const Key& key, const Config& config);
std::string source_problem(const DataSource& source);

/// " (did you mean 'x'?)" where a candidate is near (core/nearest.h), and " (one of: a, b, c)" otherwise.
std::string suggestion(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace strand::schema
