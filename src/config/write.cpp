// Values as YAML text, for the resolved configuration and for the defaults in the table of keys.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

#include "config/keys.h"
#include "config/schema.h"

namespace strand {
namespace schema {
namespace {

/// The shortest decimal number that reads back to the same bits, written with a point, so that every reader of YAML
/// takes it for a float.
std::string float_text(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".n") != std::string::npos) return text;  // has a point, or is inf or nan
  const size_t exponent = text.find('e');
  return exponent == std::string::npos ? text + ".0" : text.insert(exponent, ".0");
}

/// Whether the text may stand without quotes, in block and flow style, and is no word that YAML 1.1 or 1.2 reads as
/// something else than text.
bool is_plain(const std::string& text) {
  static constexpr std::array<std::string_view, 9> words = {"null", "true", "false", "yes", "no",
                                                            "on",   "off",  "y",     "n"};
  const auto safe = [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '/' || c == '.' || c == '-'; };
  const auto first = static_cast<unsigned char>(text.empty() ? ' ' : text[0]);
  if (!(std::isalpha(first) || first == '/') || !std::all_of(text.begin(), text.end(), safe)) return false;
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return std::find(words.begin(), words.end(), lower) == words.end();
}

std::string string_text(const std::string& text) {
  if (is_plain(text)) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    const auto code = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (code < 0x20 || code == 0x7f) {
      quoted += fmt::format("\\x{:02x}", code);
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

std::string sources_text(const std::vector<DataSource>& sources) {
  std::string text = "[";
  for (const DataSource& source : sources) {
    if (text.size() > 1) text += ", ";
    text += fmt::format("{{path: {}, weight: {}, format: {}}}", string_text(source.path), float_text(source.weight),
                        string_text(source.format));
  }
  return text + "]";
}

struct ValueText {
  const Config& config;
  std::string operator()(const IntegerField& f) const { return fmt::format("{}", f.get(config)); }
  std::string operator()(const FloatField& f) const { return float_text(f.get(config)); }
  std::string operator()(const BoolField& f) const { return f.get(config) ? "true" : "false"; }
  std::string operator()(const StringField& f) const { return string_text(f.get(config)); }
  std::string operator()(const ChoiceField& f) const { return f.choices.at(f.get(config)); }
  std::string operator()(const SourcesField& f) const { return sources_text(f.get(config)); }
};

}  // namespace

std::string value_text(const Key& key, const Config& config) {
  return std::visit(ValueText{config}, key.field);
}

}  // namespace schema

std::string to_string(Precision precision) {
  Config config;
  config.run.precision = precision;
  return schema::value_text(*schema::find_key("run", "precision"), config);
}

std::string to_string(Recompute recompute) {
  Config config;
  config.train.recompute = recompute;
  return schema::value_text(*schema::find_key("train", "recompute"), config);
}

std::string to_yaml(const Config& config) {
  std::string text = "# Every key of this run, defaults included; `strand config --help-keys` explains them.\n";
  std::string group;
  for (const schema::Key& key : schema::keys()) {
    if (key.group != group) {
      group = key.group;
      text += fmt::format("{}:\n", group);
    }
    text += fmt::format("  {}: {}\n", key.name, schema::value_text(key, config));
  }
  return text;
}

}  // namespace strand
