#pragma once
// JSON from outside, read strictly: an object at the top, no key twice in one object, nothing nested deeper than 16,
// nothing after the end. Errors name the file (`where`).
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace strand {

nlohmann::json parse_strict_json(std::string_view text, const std::string& where);

/// Members that must be there and of that kind.
const nlohmann::json& json_object(const nlohmann::json& object, const char* key, const std::string& where);
std::string json_string(const nlohmann::json& object, const char* key, const std::string& where);
uint64_t json_unsigned(const nlohmann::json& object, const char* key, const std::string& where);

}  // namespace strand
