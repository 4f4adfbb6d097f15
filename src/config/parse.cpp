// Reads YAML text and `--set` arguments into a Config. Every value remembers where it was given, so that every error
// can say it.
#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "config/check.h"
#include "config/key_names.h"
#include "config/keys.h"
#include "config/schema.h"
#include "config/yaml_values.h"
#include "core/error.h"
#include "core/nearest.h"

namespace strand {
namespace schema {
namespace {

constexpr size_t max_file_bytes = size_t{1} << 20;

/// Says where a node stands, for people: "run.yaml:12", or the whole argument "--set moe.top_k=9".
class Origin {
 public:
  static Origin file(std::string name) { return {std::move(name), Kind::file}; }
  static Origin argument(const std::string& text) { return {"--set " + text, Kind::argument}; }

  const std::string& name() const { return name_; }
  std::string place(const YAML::Mark& mark) const {
    return kind_ == Kind::argument || mark.is_null() ? name_ : fmt::format("{}:{}", name_, mark.line + 1);
  }
  std::string place(const YAML::Node& node) const { return place(node.Mark()); }

 private:
  enum class Kind { file, argument };
  Origin(std::string name, Kind kind) : name_(std::move(name)), kind_(kind) {}
  std::string name_;
  Kind kind_;
};

/// An Error whose message already starts with its place.
class PlacedError : public Error {
 public:
  using Error::Error;
};

class DocumentCounter : public YAML::EventHandler {
 public:
  int count = 0;

 private:
  using Mark = YAML::Mark;
  using Anchor = YAML::anchor_t;
  using Style = YAML::EmitterStyle::value;
  void OnDocumentStart(const Mark&) override { ++count; }
  void OnDocumentEnd() override {}
  void OnNull(const Mark&, Anchor) override {}
  void OnAlias(const Mark&, Anchor) override {}
  void OnScalar(const Mark&, const std::string&, Anchor, const std::string&) override {}
  void OnSequenceStart(const Mark&, const std::string&, Anchor, Style) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const Mark&, const std::string&, Anchor, Style) override {}
  void OnMapEnd() override {}
};

/// Whether the text holds more than one document. YAML::LoadAll is not used, because with yaml-cpp 0.7 it never returns
/// from text such as "#\n,", in which it finds documents without end.
bool holds_two_documents(const std::string& text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  DocumentCounter documents;
  while (documents.count < 2 && parser.HandleNextDocument(documents)) {
  }
  return documents.count >= 2;
}

/// Runs `action`. An Error that it throws gets its place and key in front, unless it has them already.
template <typename Action>
auto located(const std::string& place, const std::string& path, Action action) {
  try {
    return action();
  } catch (const PlacedError&) {
    throw;
  } catch (const Error& error) {
    throw PlacedError(fmt::format("{}: {}: {}", place, path, error.what()));
  }
}

/// The entries of a map. Throws Error when a key occurs twice. `path` is the path of the map, "" at the top.
std::vector<std::pair<YAML::Node, YAML::Node>> entries(const YAML::Node& map, const Origin& origin,
                                                       const std::string& path) {
  std::map<std::string, std::string> seen;
  std::vector<std::pair<YAML::Node, YAML::Node>> found;
  for (const auto& entry : map) {
    const std::string place = origin.place(entry.first);
    if (!entry.first.IsScalar()) {
      throw PlacedError(fmt::format("{}: a key must be a word, found {}", place, describe(entry.first)));
    }
    const std::string& name = entry.first.Scalar();
    const auto [first, fresh] = seen.emplace(name, place);
    if (!fresh) {
      throw PlacedError(fmt::format("{}: {}{}{}: duplicate key, first at {}", place, path, path.empty() ? "" : ".",
                                    name, first->second));
    }
    found.emplace_back(entry.first, entry.second);
  }
  return found;
}

DataSource read_source(const YAML::Node& node, const Origin& origin, const std::string& path) {
  DataSource source;
  if (node.IsMap()) {
    static const std::vector<std::string> names = {"path", "weight", "format"};
    for (const auto& [key, value] : entries(node, origin, path)) {
      const std::string& name = key.Scalar();
      if (name == "path") {
        source.path = read_string(value);
      } else if (name == "weight") {
        source.weight = read_float(value);
      } else if (name == "format") {
        source.format = read_string(value);
      } else {
        fail("unknown key '{}' of a source{}", name, suggestion(name, names));
      }
    }
  } else {
    require(node.IsScalar(), "expected a path or a map of path, weight and format, found {}", describe(node));
    source.path = read_string(node);
  }
  const std::string problem = source_problem(source);
  require(problem.empty(), "{}", problem);
  return source;
}

/// Fills one Config, and remembers where each value was given.
class Reader {
 public:
  void read_document(const std::string& text, const std::string& name) {
    origin_ = name;
    const Origin origin = Origin::file(name);
    const YAML::Node root = parse(text, origin);
    if (root.IsNull()) return;
    require(root.IsMap(), "{}: expected a map of groups ({}), found {}", origin.place(root), fmt::join(groups(), ", "),
            describe(root));
    for (const auto& [key, value] : entries(root, origin, "")) read_group(key, value, origin);
  }

  void read_override(const std::string& argument) {
    const Origin origin = Origin::argument(argument);
    const size_t equals = argument.find('=');
    require(equals != std::string::npos && equals > 0, "{}: expected key=value", origin.name());
    const std::string path = argument.substr(0, equals);
    const size_t dot = path.find('.');
    const std::string group = path.substr(0, dot);
    const std::string name = dot == std::string::npos ? "" : path.substr(dot + 1);
    if (std::find(groups().begin(), groups().end(), group) != groups().end()) {
      require(!name.empty(), "{}: '{}' is a group; name one of its keys, as in {}.{}={}", origin.name(), group, group,
              group_names(group).front(), argument.substr(equals + 1));
    }
    assign(group, name, parse(argument.substr(equals + 1), origin), origin, origin.name());
  }

  Config finish() {
    for (const Key& key : keys()) {
      require(key.presence == Presence::optional || places_.count(key.path()) > 0,
              "{}: {} is required and missing ({})", origin_, key.path(), key.meaning);
    }
    const Complain complain = [this](const auto& paths, const auto& message) { fail_at(paths, message); };
    schema::resolve_derived(config_, complain);
    check_ranges(config_, Part::everything, complain);
    check_combinations(config_, Part::everything, complain);
    return config_;
  }

 private:
  static YAML::Node parse(const std::string& text, const Origin& origin) {
    try {
      require(!holds_two_documents(text),
              "{}: holds 2 YAML documents or more, or text that belongs to none; a configuration is one",
              origin.name());
      return YAML::Load(text);
    } catch (const YAML::Exception& error) {
      throw Error(fmt::format("{}: not valid YAML: {}", origin.place(error.mark), error.msg));
    }
  }

  void read_group(const YAML::Node& key, const YAML::Node& value, const Origin& origin) {
    const std::string& group = key.Scalar();
    if (std::find(groups().begin(), groups().end(), group) == groups().end()) {
      fail("{}: unknown key '{}'{}", origin.place(key), group, nearest_group_or_key(group));
    }
    if (value.IsNull()) return;  // a group whose lines are all commented out
    require(value.IsMap(), "{}: {}: expected a map of keys, found {}", origin.place(key), group, describe(value));
    for (const auto& [name, node] : entries(value, origin, group)) {
      assign(group, name.Scalar(), node, origin, origin.place(name));
    }
  }

  void assign(const std::string& group, const std::string& name, const YAML::Node& node, const Origin& origin,
              const std::string& place) {
    const Key* key = find_key(group, name);
    if (!key) fail("{}: unknown key '{}{}{}'{}", place, group, name.empty() ? "" : ".", name, nearest_key(group, name));
    const std::string path = key->path();
    located(place, path, [&] {
      if (node.IsNull()) {
        set_nothing(*key);
      } else {
        std::visit([&](const auto& field) { set(field, node, origin, path); }, key->field);
      }
      const std::string problem = value_problem(*key, config_);
      require(problem.empty(), "{}", problem);
    });
    places_[path] = place;
  }

  /// For `~`, `null`, or no value: a text or a list that may be absent gets its default.
  void set_nothing(const Key& key) {
    const Config defaults;
    const bool optional = key.presence == Presence::optional;
    const auto* text = std::get_if<StringField>(&key.field);
    const auto* sources = std::get_if<SourcesField>(&key.field);
    if (optional && text != nullptr && text->get(defaults).empty()) return text->set(config_, "");
    if (optional && sources != nullptr) return sources->set(config_, {});
    fail("has no value{}", optional ? "; leave the key out for its default" : "");
  }

  void set(const IntegerField& f, const YAML::Node& n, const Origin&, const std::string&) {
    f.set(config_, read_integer(n));
  }
  void set(const FloatField& f, const YAML::Node& n, const Origin&, const std::string&) {
    f.set(config_, read_float(n));
  }
  void set(const BoolField& f, const YAML::Node& n, const Origin&, const std::string&) { f.set(config_, read_bool(n)); }
  void set(const StringField& f, const YAML::Node& n, const Origin&, const std::string&) {
    f.set(config_, read_string(n));
  }
  void set(const ChoiceField& f, const YAML::Node& n, const Origin&, const std::string&) {
    f.set(config_, read_choice(n, f.choices));
  }
  void set(const SourcesField& f, const YAML::Node& node, const Origin& origin, const std::string& path) {
    std::vector<DataSource> sources;
    if (node.IsSequence()) {
      for (const YAML::Node& item : node) {
        sources.push_back(located(origin.place(item), path, [&] { return read_source(item, origin, path); }));
      }
    } else {
      sources.push_back(read_source(node, origin, path));
    }
    f.set(config_, sources);
  }

  static std::vector<std::string> group_names(const std::string& group) {
    std::vector<std::string> names;
    for (const Key& key : keys()) {
      if (key.group == group) names.push_back(key.name);
    }
    return names;
  }

  /// Throws an error about `paths`. The first is at fault; the places of the others are named too, because the user may
  /// want to change one of them instead.
  [[noreturn]] void fail_at(const std::vector<std::string>& paths, const std::string& message) const {
    std::string place;
    std::string others;
    for (const std::string& path : paths) {
      const auto found = places_.find(path);
      if (found == places_.end()) continue;
      if (place.empty()) place = found->second;
      if (path != paths.front()) others += fmt::format("{}{} at {}", others.empty() ? "" : ", ", path, found->second);
    }
    fail("{}: {}: {}{}", place.empty() ? origin_ : place, paths.front(), message,
         others.empty() ? "" : " [" + others + "]");
  }

  Config config_;
  std::string origin_;
  std::map<std::string, std::string> places_;  ///< path of a key -> where its value was given
};

}  // namespace
}  // namespace schema

Config parse_config(const std::string& yaml_text, const std::string& origin,
                    const std::vector<std::string>& overrides) {
  schema::Reader reader;
  reader.read_document(yaml_text, origin);
  for (const std::string& argument : overrides) reader.read_override(argument);
  return reader.finish();
}

Config load_config(const std::string& path, const std::vector<std::string>& overrides) {
  std::error_code status;
  if (!std::filesystem::exists(path, status)) fail("cannot open {}: no such file{}", path, did_you_mean_path(path));
  require(!std::filesystem::is_directory(path, status), "cannot read {}: it is a directory, not a YAML file", path);
  std::ifstream file(path, std::ios::binary);
  if (!file) fail_errno("open", path);
  std::string text(schema::max_file_bytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) fail_errno("read", path);
  text.resize(static_cast<size_t>(file.gcount()));
  require(text.size() <= schema::max_file_bytes, "{}: larger than {} bytes, so hardly a configuration", path,
          schema::max_file_bytes);
  return parse_config(text, path, overrides);
}

}  // namespace strand
