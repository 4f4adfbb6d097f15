#include "run_report/analysis_json.h"

#include <fmt/core.h>

#include <limits>

namespace strand::run_report {

const Json& at(const Json& json, std::initializer_list<const char*> path) {
  static const Json none;
  const Json* place = &json;
  for (const char* key : path) {
    if (!place->is_object() || !place->contains(key)) return none;
    place = &(*place)[key];
  }
  return *place;
}

double number(const Json& json) {
  return json.is_number() ? json.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

std::vector<double> numbers(const Json& json) {
  std::vector<double> out;
  if (json.is_array())
    for (const Json& value : json) out.push_back(number(value));
  return out;
}

std::vector<std::vector<double>> matrix(const Json& json) {
  std::vector<std::vector<double>> rows;
  if (!json.is_array()) return {};
  for (const Json& row : json) {
    rows.push_back(numbers(row));
    if (rows.back().size() != rows.front().size()) return {};
  }
  return rows;
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

const Json& model_of(const Group& group) {
  static const Json none;
  const Json& models = at(group.runs.front()->analysis, {"models"});
  return models.is_array() && !models.empty() ? models.back() : none;
}

Row layer_numbers(const Json& model) {
  Row names;
  for (const double layer : numbers(at(model, {"layers"}))) names.push_back(fmt::format("{:.0f}", layer));
  return names;
}

Row domain_names(const Group& group, size_t count) {
  Row names;
  if (const Json& data = at(group.runs.front()->analysis, {"data"}); data.is_array())
    for (const Json& entry : data)
      names.push_back(at(entry, {"name"}).is_string() ? entry["name"].get<std::string>() : "–");
  names.resize(count, "–");
  return names;
}

std::string of_group(const std::vector<Group>& groups, const Group& group) {
  return groups.size() > 1 ? ": " + group.name : "";
}

}  // namespace strand::run_report
