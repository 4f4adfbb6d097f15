#pragma once
// Functions with which the tables of families.cpp describe config.json. This header is private to export/.
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "export/family.h"

namespace strand::hf {

/// References to settings of our configuration, in the groups model and moe.
template <typename T, auto Group, auto Member>
struct Setting {
  static T& of(Config& c) { return (c.*Group).*Member; }
  static const T& of(const Config& c) { return (c.*Group).*Member; }
};

int64_t whole_number(const nlohmann::json& value);
double real_number(const nlohmann::json& value);
bool truth(const nlohmann::json& value);

template <auto Group, auto Member>
ConfigKey integer(std::string name, std::string absent = "", std::vector<std::string> aliases = {}) {
  using S = Setting<int64_t, Group, Member>;
  return {std::move(name), [](const Config& c) { return nlohmann::ordered_json(S::of(c)); },
          [](const nlohmann::json& v, Config& c) { S::of(c) = whole_number(v); }, std::move(absent),
          std::move(aliases)};
}
template <auto Group, auto Member>
ConfigKey real(std::string name, std::string absent = "") {
  using S = Setting<double, Group, Member>;
  return {std::move(name),
          [](const Config& c) { return nlohmann::ordered_json(S::of(c)); },
          [](const nlohmann::json& v, Config& c) { S::of(c) = real_number(v); },
          std::move(absent),
          {}};
}
template <auto Group, auto Member>
ConfigKey boolean(std::string name, std::string absent = "") {
  using S = Setting<bool, Group, Member>;
  return {std::move(name),
          [](const Config& c) { return nlohmann::ordered_json(S::of(c)); },
          [](const nlohmann::json& v, Config& c) { S::of(c) = truth(v); },
          std::move(absent),
          {}};
}

/// A key that can have one value only, because our model has nothing else. `absent` is JSON text.
ConfigKey fixed(std::string name, nlohmann::ordered_json value, std::string absent,
                std::vector<std::string> aliases = {});
/// A key that is written for completeness. Importing ignores it, because it does not change what the model computes.
ConfigKey computed_remark(std::string name, std::function<nlohmann::ordered_json(const Config&)> write);
ConfigKey remark(std::string name, nlohmann::ordered_json value);

/// The values that a class takes for some of the common keys when they are absent, as JSON text.
struct CommonDefaults {
  std::string tied, norm_eps, kv_heads, positions;
  std::string head_dim = "null";  ///< null: hidden_size / num_heads
};
/// The keys that all classes have, except those about RoPE and the FFN.
std::vector<ConfigKey> common_keys(const CommonDefaults& absent);

/// A key that only files of other programs have. Importing checks it, and export does not write it.
ConfigKey foreign(std::string name, std::function<void(const nlohmann::json&)> check);

enum class PartialRotary { no, yes };
/// What a class knows of RoPE.
struct RopeTraits {
  PartialRotary partial = PartialRotary::no;
  double theta = 1e4;   ///< when it is absent
  double factor = 1.0;  ///< when it is absent: the rotated part of a head, in classes that know one
  bool yarn = true;
};
/// rope_theta and rope_scaling (for transformers 4 and engines), and rope_parameters (for transformers 5), which say
/// the same.
std::vector<ConfigKey> rope_keys(const RopeTraits& traits);

/// The balance loss of a class that has one, for users who train on with that class: router_aux_loss_coef · top_k over
/// the mean of the layers is as strong as lb_weight over their sum.
std::vector<ConfigKey> balance_loss_keys();

/// The keys of `keys`, followed by those of `more`.
std::vector<ConfigKey> operator+(std::vector<ConfigKey> keys, std::vector<ConfigKey> more);

}  // namespace strand::hf
