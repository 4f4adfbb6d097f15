#pragma once
// Reads analysis.json (docs/analysis.md) as far as it goes: what is missing, or is of another kind than it should be,
// is null, NaN or empty.
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "run_report/groups.h"

namespace strand::run_report {

using Json = nlohmann::ordered_json;
using Row = std::vector<std::string>;

/// The value at a path of keys; null where there is none.
const Json& at(const Json& json, std::initializer_list<const char*> path);
double number(const Json& json);
std::vector<double> numbers(const Json& json);
/// Cells by row and column, all rows of one length; nothing when it is no such table.
std::vector<std::vector<double>> matrix(const Json& json);
double mean(const std::vector<double>& values);

/// The newest model of the analysis of a group's first run; null when there is none.
const Json& model_of(const Group& group);
/// The numbers of its layers, as words.
Row layer_numbers(const Json& model);
/// The names of the domains that it was analysed on, as many as `count`.
Row domain_names(const Group& group, size_t count);

/// ": NAME" where there are several groups.
std::string of_group(const std::vector<Group>& groups, const Group& group);

}  // namespace strand::run_report
