#pragma once
// What the tables of the classes share, and the tables that lie in files of their own. This header is private to
// export/.
#include <string>
#include <vector>

#include "export/config_keys.h"
#include "export/requirements.h"
#include "export/tensor_rules.h"

namespace strand::hf {

using Keys = std::vector<ConfigKey>;

/// The rate with which an imported model is trained on. Files of these classes do not say how a model was trained.
inline constexpr double usual_bias_rate = 0.001;

ConfigKey no_attention_bias();
/// Whether routing weights are divided by their sum; no by default.
ConfigKey norm_topk_prob();

/// The width of dense layers. Where there are none, the classes ignore the key, but some engines read it and expect
/// `unused`.
ConfigKey dense_width(std::string absent, int64_t (*unused)(const Config&));
int64_t width_of_active_experts(const Config& c);

Keys expert_keys(const std::string& count, std::vector<std::string> count_aliases, const std::string& used,
                 std::vector<std::string> used_aliases, const std::string& width);

/// The number of shared experts, which files may give as null for none.
ConfigKey shared_count(std::string name, std::string absent);

/// n_shared_experts of a class that always has one: a model without one leaves with one that is zero, ...
ConfigKey shared_count_at_least_one(std::string absent);
/// ... and loses it again when it is imported.
void settle_dead_shared_expert(Config& c, const AllZero& all_zero);

Family bailing_moe_v2();
Family deepseek();
Family deepseek_v2();

}  // namespace strand::hf
