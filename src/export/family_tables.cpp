#include "export/family_tables.h"

#include <algorithm>

namespace strand::hf {

using nlohmann::json;
using nlohmann::ordered_json;

ConfigKey no_attention_bias() {
  return fixed("attention_bias", false, "false");
}

ConfigKey norm_topk_prob() {
  return setting<&MoeConfig::renormalize>("norm_topk_prob", "false");
}

ConfigKey dense_width(std::string absent, int64_t (*unused)(const Config&)) {
  const auto write = [unused](const Config& c) {
    return ordered_json(c.model.dense_layers > 0 ? c.model.dense_ffn : unused(c));
  };
  return {"intermediate_size",
          write,
          [](const json& v, Config& c) { c.model.dense_ffn = whole_number(v); },
          std::move(absent),
          {}};
}

int64_t width_of_active_experts(const Config& c) {
  return c.moe.top_k * c.moe.expert_ffn;
}

Keys expert_keys(const std::string& count, std::vector<std::string> count_aliases, const std::string& used,
                 std::vector<std::string> used_aliases, const std::string& width) {
  return {setting<&MoeConfig::num_experts>(count, "", std::move(count_aliases)),
          setting<&MoeConfig::top_k>(used, "", std::move(used_aliases)), setting<&MoeConfig::expert_ffn>(width)};
}

ConfigKey shared_count(std::string name, std::string absent) {
  return {std::move(name),
          [](const Config& c) { return c.moe.shared_experts > 0 ? ordered_json(c.moe.shared_experts) : nullptr; },
          [](const json& v, Config& c) { c.moe.shared_experts = v.is_null() ? 0 : whole_number(v); },
          std::move(absent),
          {}};
}

ConfigKey shared_count_at_least_one(std::string absent) {
  return {"n_shared_experts",
          [](const Config& c) { return ordered_json(std::max<int64_t>(c.moe.shared_experts, 1)); },
          [](const json& v, Config& c) { c.moe.shared_experts = whole_number(v); },
          std::move(absent),
          {}};
}

void settle_dead_shared_expert(Config& c, const AllZero& all_zero) {
  const std::string expert = "model.layers.{n}.mlp.shared_experts.";
  if (c.moe.shared_experts == 1 && all_zero(expert + "gate_proj.weight") && all_zero(expert + "up_proj.weight") &&
      all_zero(expert + "down_proj.weight"))
    c.moe.shared_experts = 0;
}

}  // namespace strand::hf
