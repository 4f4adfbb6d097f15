#include "export/model_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "config/schema.h"
#include "core/error.h"
#include "core/strict_json.h"

namespace strand::hf {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {
ordered_json id_or_null(int32_t id) {
  return id >= 0 ? ordered_json(id) : ordered_json(nullptr);
}

/// The value of a key or of one of its aliases, or the value that the class takes when all are absent.
json value_of(const json& file, const ConfigKey& key) {
  const json* value = file.contains(key.name) ? &file[key.name] : nullptr;
  for (const std::string& alias : key.aliases) {
    if (!file.contains(alias)) continue;
    require(value == nullptr || *value == file[alias], "{}, but {}, which means the same, says {}",
            value ? value->dump() : "", alias, file[alias].dump());
    value = &file[alias];
  }
  if (value) return *value;
  require(!key.absent.empty(), "is missing");
  return json::parse(key.absent);
}

std::string class_of(const json& file, const std::string& where) {
  const auto classes = file.find("architectures");
  require(classes != file.end() && classes->is_array() && classes->size() == 1 && (*classes)[0].is_string(),
          "{}: architectures: does not name one model class", where);
  return (*classes)[0].get<std::string>();
}

int64_t prediction_layers_of(const json& file, const std::string& where) {
  for (const char* key : {"num_nextn_predict_layers", "num_mtp_layers"}) {
    const auto found = file.find(key);
    if (found == file.end() || found->is_null()) continue;
    require(found->is_number_integer(), "{}: {}: {} is no whole number", where, key, found->dump());
    return found->get<int64_t>();
  }
  return 0;
}
}  // namespace

std::string config_json(const Family& family, const Config& config, const SpecialTokens& tokens, DType dtype) {
  ordered_json out;
  out["architectures"] = {family.class_name};
  out["model_type"] = family.model_type;
  for (const ConfigKey& key : family.keys)
    if (key.write) out[key.name] = key.write(config);
  out["bos_token_id"] = id_or_null(tokens.bos);
  out["eos_token_id"] = id_or_null(tokens.eos);
  out["pad_token_id"] = id_or_null(tokens.pad);
  out["torch_dtype"] = dtype == DType::bf16 ? "bfloat16" : "float32";
  out["transformers_version"] = transformers_version;
  return out.dump(2) + "\n";
}

std::string generation_config_json(const SpecialTokens& tokens) {
  ordered_json out;
  out["bos_token_id"] = id_or_null(tokens.bos);
  out["eos_token_id"] = id_or_null(tokens.eos);
  out["pad_token_id"] = id_or_null(tokens.pad);
  out["do_sample"] = false;
  out["transformers_version"] = transformers_version;
  return out.dump(2) + "\n";
}

ForeignConfig read_config_json(const std::string& text, const std::string& where, int64_t longest) {
  json file = parse_strict_json(text, where);
  const std::string class_name = class_of(file, where);
  const Family& family = family_of_class(class_name, where);
  // As in transformers: when both are there, only the older name counts for RoPE.
  const auto scaling = file.find("rope_scaling");
  if (scaling != file.end() && scaling->is_object() && !scaling->empty()) file.erase("rope_parameters");
  Config config;
  config.model.num_kv_heads = config.model.head_dim = 0;
  if (family.implies) family.implies(config);
  for (const ConfigKey& key : family.keys) {
    if (!key.read) continue;
    try {
      key.read(value_of(file, key), config);
      // This is done at once, because the check of a later key may depend on the length.
      config.data.sequence_length = std::min(config.data.sequence_length, longest);
    } catch (const std::exception& e) {
      fail("{}: {}: {}", where, key.name, e.what());
    }
  }
  if (config.model.dense_layers == 0) config.model.dense_ffn = 0;
  // A choice among groups all of which are kept is none.
  if (config.moe.groups_kept == config.moe.groups) config.moe.groups = config.moe.groups_kept = 1;
  try {
    resolve_derived(config);
    check_model_config(config);
  } catch (const Error& e) {
    fail("{}: {}", where, e.what());
  }
  return {&family, config, prediction_layers_of(file, where)};
}

}  // namespace strand::hf
