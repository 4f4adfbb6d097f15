#pragma once
// Conditions on our options that model classes of other programs make. The tables of families.cpp and
// gguf_architectures.cpp are put together from them. This header is private to export/.
#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"
#include "export/family.h"

namespace strand::hf {

Requirement score(RouterScore score);
Requirement qk_norm(QkNorm norm);

inline const Requirement attention_of_heads = {"model.attention: heads",
                                               [](const Config& c) { return !c.model.latent(); }};
inline const Requirement attention_of_latents = {"model.attention: mla",
                                                 [](const Config& c) { return c.model.latent(); }};
inline const Requirement no_rope_scaling = {"model.rope_scaling: none",
                                            [](const Config& c) { return !c.model.yarn(); }};
/// transformers means something else by other pairs of which one is zero.
inline const Requirement plain_mscales = {
    "model.yarn_mscale and yarn_mscale_all_dim above 0, or 1 and 0", [](const Config& c) {
      const ModelConfig& m = c.model;
      const bool both = m.yarn_mscale > 0 && m.yarn_mscale_all_dim > 0;
      return !m.yarn() || both || (m.yarn_mscale == 1 && m.yarn_mscale_all_dim == 0);
    }};
inline const Requirement qk_norm_not_full = {"model.qk_norm: none or head",
                                             [](const Config& c) { return c.model.qk_norm != QkNorm::full; }};
inline const Requirement renormalized = {"moe.renormalize: true", [](const Config& c) { return c.moe.renormalize; }};
inline const Requirement not_renormalized = {"moe.renormalize: false",
                                             [](const Config& c) { return !c.moe.renormalize; }};
inline const Requirement no_scale = {"moe.routed_scale: 1.0",
                                     [](const Config& c) { return c.moe.routed_scale == 1.0; }};
inline const Requirement no_shared = {"moe.shared_experts: 0",
                                      [](const Config& c) { return c.moe.shared_experts == 0; }};
inline const Requirement no_bias = {"moe.bias_rate: 0.0", [](const Config& c) { return c.moe.bias_rate == 0.0; }};
inline const Requirement no_groups = {"moe.groups: 1", [](const Config& c) { return c.moe.groups == 1; }};
inline const Requirement no_dense = {"model.dense_layers: 0",
                                     [](const Config& c) { return c.model.dense_layers == 0; }};
inline const Requirement whole_rotation = {"model.rope_fraction: 1.0",
                                           [](const Config& c) { return c.model.rotary_dim() == c.model.head_dim; }};
inline const Requirement heads_fill_width = {"model.head_dim = hidden_size / num_heads", [](const Config& c) {
                                               return c.model.head_dim * c.model.num_heads == c.model.hidden_size;
                                             }};
inline const Requirement no_grouped_keys = {"model.num_kv_heads = num_heads",
                                            [](const Config& c) { return c.model.num_kv_heads == c.model.num_heads; }};
inline const Requirement some_shared = {"moe.shared_experts: 1 or more",
                                        [](const Config& c) { return c.moe.shared_experts > 0; }};
inline const Requirement two_experts = {"moe.num_experts: 2 or more",
                                        [](const Config& c) { return c.moe.num_experts >= 2; }};
inline const Requirement some_moe_layer = {"model.dense_layers below model.num_layers",
                                           [](const Config& c) { return c.model.dense_layers < c.model.num_layers; }};

/// What the model would need to meet `requirements`; empty when it meets all.
std::vector<std::string> unmet(const std::vector<Requirement>& requirements, const Config& config);

/// The first of `classes` whose requirements the model meets and that is `eligible`. Otherwise throws Error that begins
/// with `none` and names those with the fewest unmet requirements, and these. `name_of` gives the name of a class.
template <typename Class, typename NameOf, typename Eligible>
const Class& first_that_fits(const std::vector<Class>& classes, const Config& config, const std::string& none,
                             const NameOf& name_of, const Eligible& eligible) {
  size_t fewest = SIZE_MAX;
  std::string nearest;  // all classes that are equally near
  for (const Class& one : classes) {
    if (!eligible(one)) continue;
    const std::vector<std::string> wanted = unmet(one.requirements, config);
    if (wanted.empty()) return one;
    if (wanted.size() > fewest) continue;
    if (wanted.size() < fewest) nearest.clear();
    fewest = wanted.size();
    nearest += fmt::format("{}{} (with {})", nearest.empty() ? "" : ", ", name_of(one), fmt::join(wanted, ", "));
  }
  fail("{}; nearest: {}", none, nearest);
}

}  // namespace strand::hf
