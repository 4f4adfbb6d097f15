#include "config/yaml_values.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>
#include <string_view>

#include "config/keys.h"
#include "core/error.h"

namespace strand::schema {

std::string describe(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Undefined:
    case YAML::NodeType::Null:
      return "nothing";
    case YAML::NodeType::Sequence:
      return "a list";
    case YAML::NodeType::Map:
      return "a map";
    case YAML::NodeType::Scalar:
      break;
  }
  return node.Tag() == "!" ? fmt::format("the text \"{}\"", node.Scalar()) : fmt::format("'{}'", node.Scalar());
}

namespace {
/// The text of a scalar that may be a number or a truth value: one without quotes, or with a tag that says so. Quoted
/// text, and text with the tag !!str, is text whatever it looks like. For these and all other nodes the result is "".
std::string plain_text(const YAML::Node& node) {
  if (!node.IsScalar() || node.Tag() == "!" || node.Tag() == "tag:yaml.org,2002:str") return "";
  return node.Scalar();
}

/// An integer of YAML 1.2's core schema: decimal (zeros in front mean nothing), 0x10 or 0o17.
struct IntegerText {
  bool matches = false;
  bool negative = false;
  int base = 10;
  std::string_view digits;
};

IntegerText integer_text(std::string_view text) {
  IntegerText found;
  if (text.starts_with("0x") || text.starts_with("0o")) {
    found.base = text[1] == 'x' ? 16 : 8;
    found.digits = text.substr(2);
  } else {
    found.negative = text.starts_with('-');
    found.digits = found.negative || text.starts_with('+') ? text.substr(1) : text;
  }
  const std::string_view allowed =
      std::string_view("0123456789abcdefABCDEF").substr(0, found.base == 16 ? 22 : static_cast<size_t>(found.base));
  found.matches = !found.digits.empty() && found.digits.find_first_not_of(allowed) == std::string_view::npos;
  return found;
}

/// Whether `text` is a float of the core schema: [-+]? ( . digits | digits ( . digits? )? ) ( [eE] [-+]? digits )?
bool is_float_text(std::string_view text) {
  const auto take_sign = [&] {
    if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  };
  const auto take_digits = [&] {
    const size_t count = std::min(text.find_first_not_of("0123456789"), text.size());
    text.remove_prefix(count);
    return count;
  };
  take_sign();
  size_t digits = take_digits();
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    digits += take_digits();
  }
  if (digits == 0) return false;
  if (text.starts_with('e') || text.starts_with('E')) {
    text.remove_prefix(1);
    take_sign();
    if (take_digits() == 0) return false;
  }
  return text.empty();
}

}  // namespace

int64_t read_integer(const YAML::Node& node) {
  const std::string text = plain_text(node);
  const IntegerText integer = integer_text(text);
  require(integer.matches, "expected an integer, found {}", describe(node));
  int64_t value = 0;
  const std::string signed_digits = (integer.negative ? "-" : "") + std::string(integer.digits);
  const auto status =
      std::from_chars(signed_digits.data(), signed_digits.data() + signed_digits.size(), value, integer.base);
  require(status.ec == std::errc(), "{} is out of range", text);
  return value;
}

double read_float(const YAML::Node& node) {
  const std::string text = plain_text(node);
  static const std::set<std::string> not_finite = {".inf",  "-.inf", "+.inf", ".Inf", "-.Inf", "+.Inf", ".INF", "-.INF",
                                                   "+.INF", ".nan",  ".NaN",  ".NAN", "inf",   "-inf",  "nan"};
  require(!not_finite.count(text), "{} is not a finite number", text);
  if (integer_text(text).matches && integer_text(text).base != 10) return static_cast<double>(read_integer(node));
  require(is_float_text(text), "expected a number, found {}", describe(node));
  double value = 0.0;
  const std::string_view digits = std::string_view(text).substr(text.starts_with('+') ? 1 : 0);
  const auto status = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  require(status.ec == std::errc(), "{} is out of range", text);
  require(std::isfinite(value), "{} is not a finite number", text);
  return value;
}

bool read_bool(const YAML::Node& node) {
  const std::string text = plain_text(node);
  if (text == "true" || text == "True" || text == "TRUE") return true;
  require(text == "false" || text == "False" || text == "FALSE", "expected true or false, found {}", describe(node));
  return false;
}

std::string read_string(const YAML::Node& node) {
  require(node.IsScalar(), "expected text, found {}", describe(node));
  require(node.Scalar().find('\0') == std::string::npos, "text contains a zero byte");
  return node.Scalar();
}

size_t read_choice(const YAML::Node& node, const std::vector<std::string>& choices) {
  require(node.IsScalar(), "expected one of: {}; found {}", fmt::join(choices, ", "), describe(node));
  const auto found = std::find(choices.begin(), choices.end(), node.Scalar());
  require(found != choices.end(), "unknown choice '{}'{}", node.Scalar(), suggestion(node.Scalar(), choices));
  return static_cast<size_t>(found - choices.begin());
}

}  // namespace strand::schema
