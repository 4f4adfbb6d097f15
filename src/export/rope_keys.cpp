// What config.json says of RoPE: the base, the rotated part of a head, and YaRN.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"
#include "export/config_keys.h"

namespace strand::hf {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {
/// R / A, rounded so that a reader who multiplies it by A and truncates gets R and not R - 1.
double rotary_factor(const ModelConfig& model) {
  const auto wanted = static_cast<double>(model.rotary_dim()), width = static_cast<double>(model.head_dim);
  double factor = wanted / width;
  while (std::trunc(width * factor) < wanted) factor = std::nextafter(factor, 2.0);
  return factor;
}

// ---- YaRN -----------------------------------------------------------------------------------------------------------

ordered_json yarn_parameters(const ModelConfig& model) {
  ordered_json out = {{"rope_type", "yarn"},
                      {"factor", model.yarn_factor},
                      {"original_max_position_embeddings", model.yarn_original_length},
                      {"beta_fast", model.yarn_beta_fast},
                      {"beta_slow", model.yarn_beta_slow}};
  if (model.yarn_mscale_all_dim == 0) return out;  // and yarn_mscale 1, which is what absent ones mean
  out["mscale"] = model.yarn_mscale;
  out["mscale_all_dim"] = model.yarn_mscale_all_dim;
  return out;
}

/// The number of this name; `absent` where it is not there, null, or 0, which transformers takes for absent.
double number_or(const json& object, const char* name, double absent) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return absent;
  const double value = real_number(*found);
  return value == 0 ? absent : value;
}

/// What the file says under this name, for a message; "null" where it says nothing.
std::string text_of(const json& object, const char* name) {
  return object.value(name, json(nullptr)).dump();
}

void read_magnitudes(const json& value, ModelConfig& model) {
  const double mscale = number_or(value, "mscale", 0), all_dim = number_or(value, "mscale_all_dim", 0);
  const bool written_zero = value.contains("mscale") && value["mscale"] == 0;
  const bool both = mscale != 0 && all_dim != 0,
             neither = all_dim == 0 && !written_zero && (mscale == 0 || mscale == 1);
  require(both || neither,
          "mscale {} and mscale_all_dim {}: of two numbers of which one is zero, transformers and other programs mean "
          "different things; give both above 0, or none",
          text_of(value, "mscale"), text_of(value, "mscale_all_dim"));
  require(mscale >= 0 && all_dim >= 0, "mscale {} and mscale_all_dim {}: a number below 0", mscale, all_dim);
  model.yarn_mscale = both ? mscale : 1;
  model.yarn_mscale_all_dim = both ? all_dim : 0;
}

void read_yarn(const json& value, ModelConfig& model) {
  constexpr std::array known = {"rope_type",
                                "type",
                                "rope_theta",
                                "partial_rotary_factor",
                                "factor",
                                "truncate",
                                "original_max_position_embeddings",
                                "beta_fast",
                                "beta_slow",
                                "mscale",
                                "mscale_all_dim",
                                "finetuned",
                                "attention_factor"};
  for (const auto& [name, part] : value.items())
    require(std::find(known.begin(), known.end(), name) != known.end(),
            "YaRN with {}, which our models do not have: take it out if it says nothing", name);
  require(
      !value.contains("attention_factor") || value["attention_factor"].is_null(),
      "YaRN with attention_factor {}: our models take the magnitude from factor, mscale and mscale_all_dim; take it "
      "out if it says the same",
      text_of(value, "attention_factor"));
  require(!value.contains("truncate") || value["truncate"].is_null() || value["truncate"] == true,
          "YaRN with truncate {}, but our models round the bounds of the ramp", text_of(value, "truncate"));
  for (const char* name : {"factor", "original_max_position_embeddings"})
    require(value.contains(name) && !value[name].is_null(), "YaRN without {}", name);
  model.rope_scaling = RopeScaling::yarn;
  model.yarn_factor = real_number(value["factor"]);
  model.yarn_original_length = whole_number(value["original_max_position_embeddings"]);
  model.yarn_beta_fast = number_or(value, "beta_fast", 32);
  model.yarn_beta_slow = number_or(value, "beta_slow", 1);
  read_magnitudes(value, model);
}

// ---- The keys -------------------------------------------------------------------------------------------------------

ordered_json rope_parameters(const Config& c, const RopeTraits& traits) {
  ordered_json out = c.model.yarn() ? yarn_parameters(c.model) : ordered_json{{"rope_type", "default"}};
  out["rope_theta"] = c.model.rope_theta;
  if (traits.partial == PartialRotary::yes) out["partial_rotary_factor"] = rotary_factor(c.model);
  return out;
}

ordered_json rope_scaling(const Config& c) {
  if (!c.model.yarn()) return nullptr;
  ordered_json out = yarn_parameters(c.model);
  out["type"] = "yarn";  // the older name of rope_type
  return out;
}

void read_rope_parameters(const json& value, Config& c, const RopeTraits& traits) {
  if (value.is_null()) return;
  require(value.is_object(), "{} is no object", value.dump());
  const std::string type = value.value("rope_type", value.value("type", "default"));
  require(type == "default" || (type == "yarn" && traits.yarn),
          "\"{}\" RoPE, but our models only know the default one{}", type,
          traits.yarn ? " and yarn" : ", and so does the class");
  for (const auto& [name, part] : value.items())
    require(!part.is_object(), "a RoPE of its own for {} layers, but all layers of our models rotate alike", name);
  if (type == "yarn") read_yarn(value, c.model);
  if (value.contains("rope_theta")) c.model.rope_theta = real_number(value["rope_theta"]);
  if (!value.contains("partial_rotary_factor")) return;
  const double factor = real_number(value["partial_rotary_factor"]);
  require(traits.partial == PartialRotary::yes || factor == 1.0,
          "partial_rotary_factor {}, which this class does not know", factor);
  c.model.rope_fraction = factor;
}

/// Where some files have the original length. transformers prefers it to the one inside.
ConfigKey length_beside() {
  return {"original_max_position_embeddings",
          nullptr,
          [](const json& v, Config& c) {
            require(v.is_null() || !c.model.yarn() || v == c.model.yarn_original_length,
                    "{}, but the RoPE of the model says {}", v.dump(), c.model.yarn_original_length);
          },
          "null",
          {}};
}
}  // namespace

std::vector<ConfigKey> rope_keys(const RopeTraits& traits) {
  // The keys are read in this order: first the one beside rope_parameters, and then those inside, which take
  // precedence. (When a file has both rope_scaling and rope_parameters, only the former is left at this point.)
  std::vector<ConfigKey> keys = {
      setting<&ModelConfig::rope_theta>("rope_theta", fmt::format("{:.1f}", traits.theta)),
      {"rope_scaling",
       rope_scaling,
       [traits](const json& v, Config& c) { read_rope_parameters(v, c, traits); },
       "null",
       {}},
      {"rope_parameters",
       [traits](const Config& c) { return rope_parameters(c, traits); },
       [traits](const json& v, Config& c) { read_rope_parameters(v, c, traits); },
       "null",
       {}},
      length_beside(),
  };
  if (traits.partial == PartialRotary::no) return keys;
  ConfigKey factor = {"partial_rotary_factor",
                      [](const Config& c) { return ordered_json(rotary_factor(c.model)); },
                      [](const json& v, Config& c) { c.model.rope_fraction = real_number(v); },
                      fmt::format("{:.1f}", traits.factor),
                      {}};
  keys.insert(keys.begin(), std::move(factor));
  return keys;
}

}  // namespace strand::hf
