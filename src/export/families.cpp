// The classes of transformers with ordinary attention, one table each, and the list of all classes. Every line is one
// tensor, one key or one requirement. family.h explains them.
#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/nearest.h"
#include "export/family_tables.h"

namespace strand::hf {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {
// ---- Keys of config.json --------------------------------------------------------------------------------------------

const Keys no_sliding_window = {fixed("use_sliding_window", false, "false"), remark("sliding_window", nullptr)};

/// Qwen lists the layers without experts in `mlp_only_layers`. For our models the list has to be 0, 1, .. n-1.
Keys qwen_layers() {
  const auto write = [](const Config& c) {
    ordered_json layers = ordered_json::array();
    for (int64_t n = 0; n < c.model.dense_layers; ++n) layers.push_back(n);
    return layers;
  };
  const auto read = [](const json& v, Config& c) {
    require(v.is_array() || v.is_null(), "{} is no list", v.dump());
    c.model.dense_layers = static_cast<int64_t>(v.size());
    for (size_t n = 0; n < v.size(); ++n)
      require(v[n] == n, "{}, but only the first layers can be dense in our models", v.dump());
  };
  return {{"mlp_only_layers", write, read, "[]", {}}, fixed("decoder_sparse_step", 1, "1")};
}

void all_full_attention(const json& v) {
  if (v.is_null()) return;
  require(v.is_array() && std::all_of(v.begin(), v.end(), [](const json& type) { return type == "full_attention"; }),
          "{}, but attention in our models sees the whole sequence in every layer", v.dump());
}

// ---- The classes ----------------------------------------------------------------------------------------------------

Family mixtral() {
  Family f{"MixtralForCausalLM", "mixtral", {}, {}, {}};
  f.requirements = {attention_of_heads, plain_mscales,
                    no_groups,          score(RouterScore::softmax),
                    renormalized,       qk_norm(QkNorm::none),
                    no_shared,          no_bias,
                    no_dense,           no_scale,
                    whole_rotation};
  f.tensors = llama_tensors() + experts({"block_sparse_moe", "w1", "w3", "w2"});
  f.keys = common_keys({.tied = "false", .norm_eps = "1e-5", .kv_heads = "8", .positions = "131072"}) +
           rope_keys({.theta = 1e6}) +
           expert_keys("num_local_experts", {"num_experts"}, "num_experts_per_tok", {}, "intermediate_size") +
           balance_loss_keys() +
           Keys{{"sliding_window",
                 [](const Config&) { return ordered_json(nullptr); },
                 [](const json& v, Config& c) {
                   require(v.is_null() || whole_number(v) >= c.data.sequence_length,
                           "{}, but attention in our models sees the whole sequence (of {} tokens)", v.dump(),
                           c.data.sequence_length);
                 },
                 "null",
                 {}},
                remark("router_jitter_noise", 0.0)};
  f.implies = [](Config& c) { c.moe.renormalize = true; };
  return f;
}

Family qwen3_moe() {
  Family f{"Qwen3MoeForCausalLM", "qwen3_moe", {}, {}, {}};
  f.requirements = {attention_of_heads,    plain_mscales, no_groups, score(RouterScore::softmax),
                    qk_norm(QkNorm::head), no_shared,     no_bias,   no_scale,
                    whole_rotation,        some_moe_layer};
  f.tensors = llama_tensors() + qk_norms(Size::head, Size::head) + dense_layers() + experts();
  f.keys = common_keys({.tied = "false", .norm_eps = "1e-6", .kv_heads = "4", .positions = "32768"}) +
           rope_keys({.theta = 1e4}) +
           expert_keys("num_experts", {"num_local_experts"}, "num_experts_per_tok", {}, "moe_intermediate_size") +
           Keys{dense_width("6144", width_of_active_experts), norm_topk_prob(), no_attention_bias()} + qwen_layers() +
           no_sliding_window + balance_loss_keys();
  f.implies = [](Config& c) { c.model.qk_norm = QkNorm::head; };
  f.caveats = [](const Config& c) {
    std::vector<std::string> out;
    if (!c.moe.renormalize) out.push_back("llama.cpp ignores norm_topk_prob: false and renormalizes routing weights");
    return out;
  };
  return f;
}

Family olmoe() {
  Family f{"OlmoeForCausalLM", "olmoe", {}, {}, {}};
  f.requirements = {attention_of_heads,
                    plain_mscales,
                    no_groups,
                    score(RouterScore::softmax),
                    qk_norm(QkNorm::full),
                    no_shared,
                    no_bias,
                    no_dense,
                    no_scale,
                    whole_rotation,
                    heads_fill_width};
  f.tensors = llama_tensors() + qk_norms(Size::queries, Size::keys) + experts();
  f.keys = common_keys({.tied = "false", .norm_eps = "1e-5", .kv_heads = "null", .positions = "4096"}) +
           rope_keys({.theta = 1e4}) +
           expert_keys("num_experts", {"num_local_experts"}, "num_experts_per_tok", {}, "intermediate_size") +
           Keys{norm_topk_prob(), no_attention_bias(), fixed("clip_qkv", nullptr, "null")} + balance_loss_keys();
  f.implies = [](Config& c) { c.model.qk_norm = QkNorm::full; };
  f.caveats = [](const Config& c) {
    std::vector<std::string> out;
    if (c.moe.renormalize) out.push_back("vLLM and llama.cpp ignore norm_topk_prob: true and do not renormalize");
    if (c.model.num_kv_heads != c.model.num_heads)
      out.push_back("llama.cpp knows this class without grouped keys only");
    if (c.model.norm_eps != 1e-5) out.push_back("llama.cpp takes rms_norm_eps to be 1e-5");
    return out;
  };
  return f;
}

Family qwen2_moe() {
  Family f{"Qwen2MoeForCausalLM", "qwen2_moe", {}, {}, {}};
  f.requirements = {attention_of_heads,    plain_mscales,    no_groups,     score(RouterScore::softmax),
                    qk_norm(QkNorm::none), no_shared,        no_bias,       no_scale,
                    whole_rotation,        heads_fill_width, some_moe_layer};
  // The gate of the shared expert without effect is not zero, because llama.cpp computes sigmoid(z) as silu(z) / z.
  f.tensors = llama_tensors() + dense_layers() + experts() +
              Tensors{constant(Scope::every_layer, "self_attn.q_proj.bias", Size::queries, Size::none, 0),
                      constant(Scope::every_layer, "self_attn.k_proj.bias", Size::keys, Size::none, 0),
                      constant(Scope::every_layer, "self_attn.v_proj.bias", Size::keys, Size::none, 0)} +
              dead_shared_expert("mlp.shared_expert", Size::dead_ffn) +
              Tensors{constant(Scope::moe_layer, "mlp.shared_expert_gate.weight", Size::one, Size::hidden, 1)};
  const auto read_shared = [](const json& v, Config&) {
    require(v == dead_shared_width, "{}: a shared expert behind a gate, which our models do not have", v.dump());
  };
  f.keys = common_keys({.tied = "false", .norm_eps = "1e-6", .kv_heads = "16", .positions = "32768"}) +
           rope_keys({.theta = 1e4}) +
           expert_keys("num_experts", {}, "num_experts_per_tok", {}, "moe_intermediate_size") +
           Keys{dense_width("5632", width_of_active_experts),
                norm_topk_prob(),
                fixed("qkv_bias", true, "true"),
                {"shared_expert_intermediate_size",
                 [](const Config&) { return ordered_json(dead_shared_width); },
                 read_shared,
                 "5632",
                 {}},
                foreign("layer_types", all_full_attention)} +
           qwen_layers() + no_sliding_window + balance_loss_keys();
  f.caveats = [](const Config& c) {
    std::vector<std::string> out;
    if (c.moe.renormalize) out.push_back("llama.cpp ignores norm_topk_prob: true and does not renormalize");
    return out;
  };
  return f;
}

/// llama.cpp divides intermediate_size by num_key_value_heads to get the width of the shared expert.
int64_t shared_width_times_keys(const Config& c) {
  return c.moe.shared_experts * c.moe.expert_ffn * c.model.num_kv_heads;
}

Family ernie4_5_moe() {
  Family f{"Ernie4_5_MoeForCausalLM", "ernie4_5_moe", {}, {}, {}};
  f.requirements = {attention_of_heads,    plain_mscales, no_groups,      score(RouterScore::softmax),
                    qk_norm(QkNorm::none), no_scale,      whole_rotation, some_moe_layer};
  f.tensors = llama_tensors(Layout::rotary_interleaved) + dense_layers() + experts() + shared_experts() +
              selection_bias("mlp.moe_statics.e_score_correction_bias", Layout::row,
                             "mlp.gate.moe_statics.e_score_correction_bias");
  const auto write_min = [](const Config& c) { return ordered_json(c.moe.renormalize ? 1e-12 : 1.0); };
  const auto read_min = [](const json& v, Config& c) {
    // The lower limit of the sum by which routing weights are divided. The sum is at most 1.
    const double floor = real_number(v);
    require(floor == 1.0 || floor <= 1e-6, "{}, but our models either renormalize (1e-12) or do not (1.0)", floor);
    c.moe.renormalize = floor != 1.0;
  };
  const auto last_layer = [](const Config& c) { return ordered_json(c.model.num_layers - 1); };
  const auto read_last = [](const json& v, Config& c) {
    require(v == -1 || v == c.model.num_layers - 1,
            "{}, but every layer after the first MoE layer of our models is one", v.dump());
  };
  f.keys = common_keys({.tied = "true", .norm_eps = "1e-5", .kv_heads = "4", .positions = "131072"}) +
           rope_keys({.theta = 5e5}) +
           expert_keys("moe_num_experts", {"num_experts"}, "moe_k", {"num_experts_per_tok"}, "moe_intermediate_size") +
           Keys{setting<&MoeConfig::shared_experts>("moe_num_shared_experts", "2"),
                dense_width("12288", shared_width_times_keys),
                setting<&ModelConfig::dense_layers>("moe_layer_start_index", "1"),
                {"moe_layer_end_index", last_layer, read_last, "-1", {}},
                fixed("moe_layer_interval", 1, "1"),
                {"moe_norm_min", write_min, read_min, "1e-12", {}},
                fixed("use_bias", false, "false")} +
           balance_loss_keys();
  f.leftovers = {prediction_blocks()};
  f.settle = [](Config& c, const AllZero& all_zero) {
    const bool none = all_zero("model.layers.{n}.mlp.moe_statics.e_score_correction_bias");
    c.moe.bias_rate = none ? 0.0 : usual_bias_rate;
  };
  f.caveats = [](const Config& c) {
    std::vector<std::string> out;
    if (!c.moe.renormalize)
      out.push_back(
          "moe_norm_min 1.0 (no renormalization) is exact in transformers; vLLM, SGLang and llama.cpp ignore "
          "it and renormalize, which gives other results");
    return out;
  };
  return f;
}

Family glm4_moe() {
  Family f{"Glm4MoeForCausalLM", "glm4_moe", {}, {}, {}};
  f.requirements = {attention_of_heads, plain_mscales, score(RouterScore::sigmoid),
                    qk_norm_not_full,   two_experts,   some_moe_layer};
  f.tensors = llama_tensors() + qk_norms(Size::head, Size::head, has_head_norms) + dense_layers() + experts() +
              shared_experts() + dead_shared_expert("mlp.shared_experts", Size::expert_ffn, has_no_shared) +
              selection_bias("mlp.gate.e_score_correction_bias", Layout::same);
  const ConfigKey qk = {"use_qk_norm",
                        [](const Config& c) { return ordered_json(c.model.qk_norm == QkNorm::head); },
                        [](const json& v, Config& c) { c.model.qk_norm = truth(v) ? QkNorm::head : QkNorm::none; },
                        "false",
                        {}};
  f.keys = common_keys({.tied = "false", .norm_eps = "1e-5", .kv_heads = "8", .positions = "131072"}) +
           rope_keys({.partial = PartialRotary::yes, .theta = 1e4, .factor = 0.5}) +
           expert_keys("n_routed_experts", {"num_local_experts", "num_experts"}, "num_experts_per_tok", {},
                       "moe_intermediate_size") +
           Keys{shared_count_at_least_one("1"),
                dense_width("10944", width_of_active_experts),
                setting<&ModelConfig::dense_layers>("first_k_dense_replace", "1"),
                setting<&MoeConfig::renormalize>("norm_topk_prob", "true"),
                setting<&MoeConfig::routed_scale>("routed_scaling_factor", "1.0"),
                setting<&MoeConfig::groups>("n_group", "1"),
                setting<&MoeConfig::groups_kept>("topk_group", "1"),
                qk,
                no_attention_bias(),
                remark("num_nextn_predict_layers", 0)};
  f.leftovers = {prediction_layers()};
  f.implies = [](Config& c) { c.moe.score = RouterScore::sigmoid; };
  f.settle = [](Config& c, const AllZero& all_zero) {
    c.moe.bias_rate = all_zero("model.layers.{n}.mlp.gate.e_score_correction_bias") ? 0.0 : usual_bias_rate;
    settle_dead_shared_expert(c, all_zero);
  };
  return f;
}
}  // namespace

const std::vector<Family>& families() {
  static const std::vector<Family> all = {mixtral(),  qwen3_moe(),      olmoe(),    qwen2_moe(),  ernie4_5_moe(),
                                          glm4_moe(), bailing_moe_v2(), deepseek(), deepseek_v2()};
  return all;
}

std::vector<std::string> written_classes() {
  std::vector<std::string> names;
  for (const Family& family : families())
    if (family.written != Written::never) names.push_back(family.class_name);
  return names;
}

const Family& family_for(const Config& config, const std::string& origin) {
  for (const Family& family : families())
    if (family.class_name == origin && family.written != Written::never && unmet(family.requirements, config).empty())
      return family;
  return first_that_fits(
      families(), config, "no Hugging Face class can express this model exactly",
      [](const Family& family) { return family.class_name; },
      [](const Family& family) { return family.written == Written::by_default; });
}

const Family& requested_family(const Config& config, const std::string& class_name) {
  for (const Family& family : families()) {
    if (family.class_name != class_name || family.written == Written::never) continue;
    const std::vector<std::string> wanted = unmet(family.requirements, config);
    require(wanted.empty(), "{} cannot express this model: it needs {}", class_name, fmt::join(wanted, ", "));
    return family;
  }
  fail("{} is no class that export writes; it writes {}{}", class_name, fmt::join(written_classes(), ", "),
       did_you_mean(class_name, written_classes()));
}

const Family& family_of_class(const std::string& class_name, const std::string& where) {
  std::string known;
  for (const Family& family : families()) {
    if (family.class_name == class_name) return family;
    known += (known.empty() ? "" : ", ") + family.class_name;
  }
  fail("{}: architectures: a model of class {}; known are {}", where, class_name, known);
}

}  // namespace strand::hf
