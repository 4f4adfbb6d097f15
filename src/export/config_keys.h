#pragma once
// Functions with which the tables of families.cpp describe config.json. This header is private to export/.
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "export/family.h"

namespace strand::hf {

int64_t whole_number(const nlohmann::json& value);
double real_number(const nlohmann::json& value);
bool truth(const nlohmann::json& value);

inline void read_value(const nlohmann::json& value, int64_t& to) {
  to = whole_number(value);
}
inline void read_value(const nlohmann::json& value, double& to) {
  to = real_number(value);
}
inline void read_value(const nlohmann::json& value, bool& to) {
  to = truth(value);
}

/// The group of our configuration that has this type.
template <typename Group>
inline constexpr auto group_of_type = nullptr;
template <>
inline constexpr auto group_of_type<ModelConfig> = &Config::model;
template <>
inline constexpr auto group_of_type<MoeConfig> = &Config::moe;
template <>
inline constexpr auto group_of_type<DataConfig> = &Config::data;

template <auto Member>
struct Setting;
template <typename Group, typename T, T Group::*Member>
struct Setting<Member> {
  static T& of(Config& c) { return (c.*group_of_type<Group>) .*Member; }
  static const T& of(const Config& c) { return (c.*group_of_type<Group>) .*Member; }
};

/// A key that says the same as one of our settings: setting<&ModelConfig::num_layers>("num_hidden_layers").
template <auto Member>
ConfigKey setting(std::string name, std::string absent = "", std::vector<std::string> aliases = {}) {
  using S = Setting<Member>;
  return {std::move(name), [](const Config& c) { return nlohmann::ordered_json(S::of(c)); },
          [](const nlohmann::json& v, Config& c) { read_value(v, S::of(c)); }, std::move(absent), std::move(aliases)};
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
