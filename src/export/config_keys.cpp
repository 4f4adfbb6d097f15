#include "export/config_keys.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace strand::hf {

using nlohmann::json;
using nlohmann::ordered_json;

int64_t whole_number(const json& value) {
  require(value.is_number_integer() && (!value.is_number_unsigned() || value.get<uint64_t>() <= INT64_MAX),
          "{} is no whole number", value.dump());
  return value.get<int64_t>();
}

double real_number(const json& value) {
  require(value.is_number() && std::isfinite(value.get<double>()), "{} is no finite number", value.dump());
  return value.get<double>();
}

bool truth(const json& value) {
  require(value.is_boolean(), "{} is neither true nor false", value.dump());
  return value.get<bool>();
}

ConfigKey fixed(std::string name, ordered_json value, std::string absent, std::vector<std::string> aliases) {
  const json wanted = json::parse(value.dump());
  return {std::move(name), [value](const Config&) { return value; },
          [wanted](const json& v, Config&) {
            require(v == wanted, "{}, but our models only know {}", v.dump(), wanted.dump());
          },
          std::move(absent), std::move(aliases)};
}

ConfigKey computed_remark(std::string name, std::function<ordered_json(const Config&)> write) {
  return {std::move(name), std::move(write), nullptr, "null", {}};
}

ConfigKey remark(std::string name, ordered_json value) {
  return computed_remark(std::move(name), [value = std::move(value)](const Config&) { return value; });
}

ConfigKey foreign(std::string name, std::function<void(const json&)> check) {
  return {std::move(name), nullptr, [check = std::move(check)](const json& v, Config&) { check(v); }, "null", {}};
}

std::vector<ConfigKey> operator+(std::vector<ConfigKey> keys, std::vector<ConfigKey> more) {
  for (ConfigKey& key : more) keys.push_back(std::move(key));
  return keys;
}

namespace {
void read_sizes_of_heads(const json& value, Config& c) {
  if (value.is_null()) return;  // resolve_derived then sets hidden_size / num_heads
  c.model.head_dim = whole_number(value);
  require(c.model.head_dim > 0, "{} is no width of a head", c.model.head_dim);
}

/// With YaRN, programs that do not look at its factor take the quotient of this number and the original length for it.
ConfigKey longest_sequence(std::string absent) {
  ConfigKey key = setting<&DataConfig::sequence_length>("max_position_embeddings", std::move(absent));
  key.write = [](const Config& c) {
    const double extended = c.model.yarn_factor * static_cast<double>(c.model.yarn_original_length);
    return ordered_json(c.model.yarn() ? std::max<int64_t>(c.data.sequence_length, std::llround(extended))
                                       : c.data.sequence_length);
  };
  return key;
}

ConfigKey refused(std::string name, std::string what) {
  return foreign(std::move(name), [what = std::move(what)](const json& v) {
    require(v.is_null() || v.empty(), "our models have no {}", what);
  });
}
}  // namespace

std::vector<ConfigKey> common_keys(const CommonDefaults& absent) {
  return {
      setting<&ModelConfig::vocab_size>("vocab_size"),
      setting<&ModelConfig::hidden_size>("hidden_size"),
      setting<&ModelConfig::num_layers>("num_hidden_layers"),
      setting<&ModelConfig::num_heads>("num_attention_heads"),
      {"num_key_value_heads",
       [](const Config& c) { return ordered_json(c.model.num_kv_heads); },
       [](const json& v, Config& c) { c.model.num_kv_heads = v.is_null() ? c.model.num_heads : whole_number(v); },
       absent.kv_heads,
       {}},
      {"head_dim",
       [](const Config& c) { return ordered_json(c.model.head_dim); },
       read_sizes_of_heads,
       absent.head_dim,
       {}},
      fixed("hidden_act", "silu", "\"silu\""),
      longest_sequence(absent.positions),
      setting<&ModelConfig::norm_eps>("rms_norm_eps", absent.norm_eps),
      setting<&ModelConfig::tied_embeddings>("tie_word_embeddings", absent.tied),
      setting<&ModelConfig::init_std>("initializer_range", "0.02"),
      remark("attention_dropout", 0.0),
      remark("use_cache", true),
      refused("quantization_config", "quantized weights (take the files of the model in bf16)"),
      refused("per_layer_config", "layers that differ from each other"),
  };
}

std::vector<ConfigKey> balance_loss_keys() {
  const auto layers_over_k = [](const Config& c) {
    const auto layers = static_cast<double>(c.model.num_layers - c.model.dense_layers);
    return layers / static_cast<double>(c.moe.top_k);
  };
  return {remark("output_router_logits", false),
          computed_remark("router_aux_loss_coef", [layers_over_k](const Config& c) {
            return ordered_json(c.losses.lb_weight * layers_over_k(c));
          })};
}

}  // namespace strand::hf
