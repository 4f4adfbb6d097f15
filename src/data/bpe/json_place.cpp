#include "data/bpe/json_place.h"

#include <algorithm>

#include "core/error.h"

namespace strand {

JsonPlace::JsonPlace(const nlohmann::json& value, std::string file, std::string path)
    : value_(&value), file_(std::move(file)), path_(std::move(path)) {}

std::string JsonPlace::name() const {
  return path_.empty() ? file_ : fmt::format("{}: {}", file_, path_);
}

void JsonPlace::refuse(const std::string& reason) const {
  fail("{}: {}", name(), reason);
}

std::optional<JsonPlace> JsonPlace::find(const char* key) const {
  if (!value_->is_object()) refuse("no object");
  const auto found = value_->find(key);
  if (found == value_->end() || found->is_null()) return std::nullopt;
  return JsonPlace(*found, file_, path_.empty() ? key : fmt::format("{}.{}", path_, key));
}

JsonPlace JsonPlace::at(const char* key) const {
  const std::optional<JsonPlace> found = find(key);
  if (!found) refuse(fmt::format("the key \"{}\" is missing", key));
  return *found;
}

void JsonPlace::require_only(std::initializer_list<const char*> known) const {
  if (!value_->is_object()) refuse("no object");
  for (const auto& [key, ignored] : value_->items()) {
    const bool is_known = std::any_of(known.begin(), known.end(), [&k = key](const char* name) { return k == name; });
    if (!is_known) refuse(fmt::format("the key \"{}\" is not understood", key));
  }
}

std::vector<JsonPlace> JsonPlace::items() const {
  if (!value_->is_array()) refuse("no array");
  std::vector<JsonPlace> out;
  out.reserve(value_->size());
  for (size_t i = 0; i < value_->size(); ++i)
    out.push_back(JsonPlace((*value_)[i], file_, fmt::format("{}[{}]", path_, i)));
  return out;
}

std::string JsonPlace::text() const {
  if (!value_->is_string()) refuse("no text");
  return value_->get<std::string>();
}

bool JsonPlace::flag() const {
  if (!value_->is_boolean()) refuse("neither true nor false");
  return value_->get<bool>();
}

int32_t JsonPlace::id() const {
  constexpr uint64_t end = uint64_t{1} << 31;
  if (!value_->is_number_unsigned() || value_->get<uint64_t>() >= end) refuse("no whole number in [0, 2^31)");
  return static_cast<int32_t>(value_->get<uint64_t>());
}

std::string JsonPlace::text_or(const char* key, const std::string& otherwise) const {
  const std::optional<JsonPlace> found = find(key);
  return found ? found->text() : otherwise;
}

bool JsonPlace::flag_or(const char* key, bool otherwise) const {
  const std::optional<JsonPlace> found = find(key);
  return found ? found->flag() : otherwise;
}

}  // namespace strand
