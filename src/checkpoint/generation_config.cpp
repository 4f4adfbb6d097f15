#include "checkpoint/generation_config.h"

#include <algorithm>

#include "core/strict_json.h"
#include "core/error.h"

namespace strand {

std::vector<int32_t> eos_ids_in(const std::string& json, const std::string& where, int64_t vocab_size) {
  const nlohmann::json file = parse_strict_json(json, where);
  const auto found = file.find("eos_token_id");
  if (found == file.end() || found->is_null()) return {};
  std::vector<int32_t> ids;
  for (const nlohmann::json& id : found->is_array() ? *found : nlohmann::json::array({*found})) {
    const bool known = id.is_number_integer() && (!id.is_number_unsigned() || id.get<uint64_t>() < uint64_t{1} << 62) &&
                       id.get<int64_t>() >= 0 && id.get<int64_t>() < vocab_size;
    require(known, "{}: eos_token_id: {} is no id of a vocabulary of {}", where, id.dump(), vocab_size);
    if (const auto value = id.get<int32_t>(); std::find(ids.begin(), ids.end(), value) == ids.end())
      ids.push_back(value);
  }
  return ids;
}

std::vector<int32_t> carried_eos_ids(const NamedFiles& carried, const std::string& checkpoint, int64_t vocab_size) {
  const auto found = carried.find(generation_config_file);
  if (found == carried.end()) return {};
  return eos_ids_in(found->second, checkpoint + "/" + generation_config_file, vocab_size);
}

}  // namespace strand
