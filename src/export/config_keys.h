#pragma once
// The vocabulary in which the tables of families.cpp describe config.json. Private to export/.
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "export/family.h"

namespace strand::hf {

/// Settings of our configuration by reference, of both struct groups.
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

/// A key that can have one value only, because our model has nothing else; `absent` as JSON text.
ConfigKey fixed(std::string name, nlohmann::ordered_json value, std::string absent,
                std::vector<std::string> aliases = {});
/// Written for completeness; importing ignores it, because it does not change what the model computes.
ConfigKey computed_remark(std::string name, std::function<nlohmann::ordered_json(const Config&)> write);
ConfigKey remark(std::string name, nlohmann::ordered_json value);

/// What a class takes some of the common keys to be when they are not there, as JSON text.
struct CommonDefaults {
  std::string tied, norm_eps, kv_heads, positions;
};
/// Keys that every class has, up to those about RoPE and the FFN.
std::vector<ConfigKey> common_keys(const CommonDefaults& absent);

/// A key that only files of others have: importing reads it, export does not write it.
ConfigKey foreign(std::string name, std::function<void(const nlohmann::json&)> check);

/// rope_theta (transformers 4, engines) and rope_parameters (transformers 5): the same said twice.
enum class PartialRotary { no, yes };
std::vector<ConfigKey> rope_keys(PartialRotary partial, double theta_when_absent);

/// The balance loss of a class that has one, for who trains on with it: router_aux_loss_coef times top_k, over the mean
/// of the layers, is as strong as lb_weight over their sum.
std::vector<ConfigKey> balance_loss_keys();

/// `more` after `keys`.
std::vector<ConfigKey> operator+(std::vector<ConfigKey> keys, std::vector<ConfigKey> more);

}  // namespace strand::hf
