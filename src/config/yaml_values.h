#pragma once
// Values of a configuration from nodes of YAML, by the core schema of YAML 1.2 (yaml.org/spec/1.2.2, section 10.3).
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace YAML {
class Node;
}

namespace strand::schema {

/// What a node is, for error messages: "a list", "'text'".
std::string describe(const YAML::Node& node);

// Each of these reads one value of the expected type. It throws Error when the node holds no such value. The message is
// without place and key, which the caller adds.
int64_t read_integer(const YAML::Node& node);
/// Finite.
double read_float(const YAML::Node& node);
bool read_bool(const YAML::Node& node);
/// Without zero bytes.
std::string read_string(const YAML::Node& node);
/// The index of the value in `choices`.
size_t read_choice(const YAML::Node& node, const std::vector<std::string>& choices);

}  // namespace strand::schema
