#pragma once
// Numbers of analysis.json: six significant digits, and null for what is no number.
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "analysis/count_matrix.h"

namespace strand {

using Json = nlohmann::ordered_json;

Json json_number(double value);
Json json_number(const std::optional<double>& value);
/// A list of numbers.
Json json_list(const std::vector<double>& values);

/// A list of value(i) for i from 0 to count − 1.
template <typename Value>
Json json_list(int64_t count, const Value& value) {
  Json list = Json::array();
  for (int64_t i = 0; i < count; ++i) list.push_back(value(i));
  return list;
}
/// A list of the numbers value(i).
template <typename Value>
Json json_numbers(int64_t count, const Value& value) {
  return json_list(count, [&](int64_t i) { return json_number(value(i)); });
}

}  // namespace strand
