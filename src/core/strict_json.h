#pragma once
// JSON from outside, read strictly: there is an object at the top, no object has a key twice, nothing is nested deeper
// than 16 levels, and nothing follows after the end. Errors name the file (`where`).
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace strand {

nlohmann::json parse_strict_json(std::string_view text, const std::string& where);

/// A member of an object. Throws Error when it is missing or of another kind.
const nlohmann::json& json_object(const nlohmann::json& object, const char* key, const std::string& where);
std::string json_string(const nlohmann::json& object, const char* key, const std::string& where);
uint64_t json_unsigned(const nlohmann::json& object, const char* key, const std::string& where);

}  // namespace strand
