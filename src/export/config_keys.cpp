#include "export/config_keys.h"

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
constexpr auto m = &Config::model;
using M = ModelConfig;

void read_sizes_of_heads(const json& value, Config& c) {
  if (value.is_null()) return;  // resolve_derived then sets hidden_size / num_heads
  c.model.head_dim = whole_number(value);
  require(c.model.head_dim > 0, "{} is no width of a head", c.model.head_dim);
}

ConfigKey refused(std::string name, std::string what) {
  return foreign(std::move(name), [what = std::move(what)](const json& v) {
    require(v.is_null() || v.empty(), "our models have no {}", what);
  });
}
}  // namespace

std::vector<ConfigKey> common_keys(const CommonDefaults& absent) {
  return {
      integer<m, &M::vocab_size>("vocab_size"),
      integer<m, &M::hidden_size>("hidden_size"),
      integer<m, &M::num_layers>("num_hidden_layers"),
      integer<m, &M::num_heads>("num_attention_heads"),
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
      integer<&Config::data, &DataConfig::sequence_length>("max_position_embeddings", absent.positions),
      real<m, &M::norm_eps>("rms_norm_eps", absent.norm_eps),
      boolean<m, &M::tied_embeddings>("tie_word_embeddings", absent.tied),
      real<m, &M::init_std>("initializer_range", "0.02"),
      remark("attention_dropout", 0.0),
      remark("use_cache", true),
      refused("quantization_config", "quantized weights (take the files of the model in bf16)"),
      refused("per_layer_config", "layers that differ from each other"),
  };
}

namespace {
/// R / A, rounded so that a reader who multiplies it by A and truncates gets R and not R - 1.
double rotary_factor(const ModelConfig& model) {
  const auto wanted = static_cast<double>(model.rotary_dim()), width = static_cast<double>(model.head_dim);
  double factor = wanted / width;
  while (std::trunc(width * factor) < wanted) factor = std::nextafter(factor, 2.0);
  return factor;
}

ordered_json rope_parameters(const Config& c, PartialRotary partial) {
  ordered_json out = {{"rope_type", "default"}, {"rope_theta", c.model.rope_theta}};
  if (partial == PartialRotary::yes) out["partial_rotary_factor"] = rotary_factor(c.model);
  return out;
}

void read_rope_parameters(const json& value, Config& c, PartialRotary partial) {
  if (value.is_null()) return;
  require(value.is_object(), "{} is no object", value.dump());
  const std::string type = value.value("rope_type", value.value("type", "default"));
  require(type == "default", "\"{}\" RoPE, but our models only know the default one", type);
  for (const auto& [name, part] : value.items())
    require(!part.is_object(), "a RoPE of its own for {} layers, but all layers of our models rotate alike", name);
  if (value.contains("rope_theta")) c.model.rope_theta = real_number(value["rope_theta"]);
  if (!value.contains("partial_rotary_factor")) return;
  const double factor = real_number(value["partial_rotary_factor"]);
  require(partial == PartialRotary::yes || factor == 1.0, "partial_rotary_factor {}, which this class does not know",
          factor);
  c.model.rope_fraction = factor;
}
}  // namespace

std::vector<ConfigKey> rope_keys(PartialRotary partial, double theta_when_absent, double factor_when_absent) {
  // The keys are read in this order: first the one beside rope_parameters, and then those inside, which take
  // precedence. (When a file has both rope_scaling and rope_parameters, only the former is left at this point.)
  std::vector<ConfigKey> keys = {
      real<m, &M::rope_theta>("rope_theta", fmt::format("{:.1f}", theta_when_absent)),
      {"rope_scaling",
       [](const Config&) { return ordered_json(nullptr); },
       [partial](const json& v, Config& c) { read_rope_parameters(v, c, partial); },
       "null",
       {}},
      {"rope_parameters",
       [partial](const Config& c) { return rope_parameters(c, partial); },
       [partial](const json& v, Config& c) { read_rope_parameters(v, c, partial); },
       "null",
       {}},
  };
  if (partial == PartialRotary::no) return keys;
  ConfigKey factor = {"partial_rotary_factor",
                      [](const Config& c) { return ordered_json(rotary_factor(c.model)); },
                      [](const json& v, Config& c) { c.model.rope_fraction = real_number(v); },
                      fmt::format("{:.1f}", factor_when_absent),
                      {}};
  keys.insert(keys.begin(), std::move(factor));
  return keys;
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
