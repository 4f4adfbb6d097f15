#include "analysis/json_numbers.h"

#include <fmt/core.h>

#include <cmath>
#include <cstdlib>

namespace strand {

Json json_number(double value) {
  if (!std::isfinite(value)) return nullptr;
  return std::strtod(fmt::format("{:.6g}", value).c_str(), nullptr) + 0.0;  // −0 is written as 0
}

Json json_number(const std::optional<double>& value) {
  return value ? json_number(*value) : Json(nullptr);
}

Json json_list(const std::vector<double>& values) {
  Json list = Json::array();
  for (const double value : values) list.push_back(json_number(value));
  return list;
}

}  // namespace strand
