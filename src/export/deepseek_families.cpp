// DeepseekForCausalLM: DeepSeek-MoE. The class lies in code that comes with its checkpoints, not in transformers. vLLM
// and llama.cpp know it; for transformers, Ernie4_5_MoeForCausalLM computes the same.
// DeepseekV2ForCausalLM: DeepSeek-V2-Lite, with latent attention. It is a class of transformers.
//
// Source: modeling_deepseek.py and configuration_deepseek.py of deepseek-ai/deepseek-moe-16b-base, and
// models/deepseek_v2 of transformers.
#include "core/error.h"
#include "export/family_tables.h"

namespace strand::hf {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {
/// The balance loss with which the class trains: lb_weight is its aux_loss_alpha, and lb_scope: sequence its seq_aux.
Keys balance_loss() {
  return {computed_remark("aux_loss_alpha", [](const Config& c) { return ordered_json(c.losses.lb_weight); }),
          computed_remark(
              "seq_aux", [](const Config& c) { return ordered_json(c.losses.lb_scope == StatisticsScope::sequence); })};
}

/// The class divides the weight of a single expert by nothing.
ConfigKey renormalize() {
  ConfigKey key = norm_topk_prob();
  key.read = [](const json& v, Config& c) { c.moe.renormalize = truth(v) && c.moe.top_k > 1; };
  return key;
}
}  // namespace

Family deepseek() {
  const Requirement several_where_renormalized = {
      "moe.top_k: 2 or more, with moe.renormalize: true",
      [](const Config& c) { return !c.moe.renormalize || c.moe.top_k > 1; }};
  Family f{"DeepseekForCausalLM", "deepseek", {}, {}, {}};
  f.written = Written::on_request;
  f.requirements = {attention_of_heads,
                    no_rope_scaling,
                    no_groups,
                    score(RouterScore::softmax),
                    qk_norm(QkNorm::none),
                    no_bias,
                    no_scale,
                    whole_rotation,
                    heads_fill_width,
                    some_moe_layer,
                    several_where_renormalized};
  f.tensors = llama_tensors() + dense_layers() + experts() + shared_experts();
  f.keys = common_keys({.tied = "false", .norm_eps = "1e-6", .kv_heads = "32", .positions = "2048"}) +
           rope_keys({.theta = 1e4, .yarn = false}) +
           expert_keys("n_routed_experts", {}, "num_experts_per_tok", {}, "moe_intermediate_size") +
           Keys{shared_count("n_shared_experts", "null"),
                dense_width("11008", width_of_active_experts),
                setting<&ModelConfig::dense_layers>("first_k_dense_replace", "0"),
                fixed("moe_layer_freq", 1, "1"),
                fixed("scoring_func", "softmax", "\"softmax\""),
                renormalize(),
                no_attention_bias()} +
           balance_loss();
  f.caveats = [](const Config& c) {
    std::vector<std::string> out = {
        "transformers has DeepseekForCausalLM only as code beside the original checkpoint; vLLM has it itself. "
        "For transformers, export with --class Ernie4_5_MoeForCausalLM"};
    if (c.moe.renormalize) out.push_back("llama.cpp ignores norm_topk_prob: true and does not renormalize");
    return out;
  };
  return f;
}

namespace {
TensorRule of_attention(const std::string& ours, const std::string& theirs, Size rows, Size columns,
                        Layout layout = Layout::same, bool (*applies)(const Config&) = nullptr) {
  return {.scope = Scope::every_layer,
          .ours = "layers.{n}.attn." + ours + ".weight",
          .theirs = "model.layers.{n}.self_attn." + theirs + ".weight",
          .rows = rows,
          .columns = columns,
          .layout = layout,
          .applies = applies};
}

/// The tensors outside the FFN.
Tensors latent_attention() {
  Tensors tensors = llama_tensors();
  std::erase_if(tensors, [](const TensorRule& rule) { return rule.ours.find("_proj") != std::string::npos; });
  return tensors +
         Tensors{
             of_attention("q_proj", "q_proj", Size::queries, Size::hidden, Layout::latent_queries, has_no_query_latent),
             of_attention("q_a_proj", "q_a_proj", Size::query_latent, Size::hidden, Layout::same, has_query_latent),
             of_attention("q_a_norm", "q_a_layernorm", Size::query_latent, Size::none, Layout::same, has_query_latent),
             of_attention("q_b_proj", "q_b_proj", Size::queries, Size::query_latent, Layout::latent_queries,
                          has_query_latent),
             of_attention("kv_a_proj", "kv_a_proj_with_mqa", Size::latent_and_key, Size::hidden,
                          Layout::latent_and_key),
             of_attention("kv_a_norm", "kv_a_layernorm", Size::key_latent, Size::none),
             of_attention("kv_b_proj", "kv_b_proj", Size::keys_and_values, Size::key_latent),
             of_attention("o_proj", "o_proj", Size::hidden, Size::values)};
}

/// The keys of every class, without that of the width of a head, which is made of others here.
Keys keys_of_latent_model() {
  Keys keys = common_keys({.tied = "false", .norm_eps = "1e-6", .kv_heads = "null", .positions = "2048"});
  for (ConfigKey& key : keys) {
    if (key.name == "head_dim")
      key = computed_remark("head_dim", [](const Config& c) { return ordered_json(c.model.rope_head_dim); });
    if (key.name == "num_key_value_heads")
      key.read = [](const json& v, Config& c) {
        require(v.is_null() || v == c.model.num_heads, "{}, but with latent attention each of the {} heads has its own",
                v.dump(), c.model.num_heads);
        c.model.num_kv_heads = c.model.num_heads;
      };
  }
  return keys;
}

Keys latent_sizes() {
  const auto write = [](const Config& c) { return c.model.q_latent > 0 ? ordered_json(c.model.q_latent) : nullptr; };
  const auto read = [](const json& v, Config& c) { c.model.q_latent = v.is_null() ? 0 : whole_number(v); };
  return {{"q_lora_rank", write, read, "1536", {}},
          setting<&ModelConfig::kv_latent>("kv_lora_rank", "512"),
          setting<&ModelConfig::nope_head_dim>("qk_nope_head_dim", "128"),
          setting<&ModelConfig::rope_head_dim>("qk_rope_head_dim", "64"),
          setting<&ModelConfig::value_head_dim>("v_head_dim", "128")};
}

/// transformers pays no attention to the key, and other programs do.
ConfigKey never_renormalized() {
  ConfigKey key = fixed("norm_topk_prob", false, "false");
  key.read = [](const json& v, Config&) {
    require(v.is_null() || v == false,
            "{}: transformers ignores it and other programs do not, so nobody can say which model is meant", v.dump());
  };
  return key;
}

/// Groups of experts are not those of other classes: a group counts as much as its best expert.
Keys choice_of_experts() {
  const auto check_method = [](const json& v, Config& c) {
    require(v == "greedy" || (v == "group_limited_greedy" && c.moe.groups_kept == c.moe.groups),
            "{}, but our models know \"greedy\" only: their groups count the two best experts of each", v.dump());
    c.moe.groups = c.moe.groups_kept = 1;
  };
  const auto write_one = [](const Config&) { return ordered_json(1); };
  const auto group_key = [&](const char* name, int64_t MoeConfig::*member) {
    const auto read = [member](const json& v, Config& c) { c.moe.*member = v.is_null() ? 1 : whole_number(v); };
    return ConfigKey{name, write_one, read, "null", {}};
  };
  return {group_key("n_group", &MoeConfig::groups),
          group_key("topk_group", &MoeConfig::groups_kept),
          {"topk_method", [](const Config&) { return ordered_json("greedy"); }, check_method, "\"greedy\"", {}},
          fixed("scoring_func", "softmax", "\"softmax\""),
          never_renormalized(),
          setting<&MoeConfig::routed_scale>("routed_scaling_factor", "1.0")};
}
}  // namespace

Family deepseek_v2() {
  const Requirement heads_divide_width = {"model.hidden_size divisible by num_heads",
                                          [](const Config& c) { return c.model.hidden_size % c.model.num_heads == 0; }};
  Family f{"DeepseekV2ForCausalLM", "deepseek_v2", {}, {}, {}};
  f.requirements = {attention_of_latents, plain_mscales, no_groups,      score(RouterScore::softmax),
                    not_renormalized,     no_bias,       some_moe_layer, heads_divide_width};
  f.tensors = latent_attention() + dense_layers() + experts() + shared_experts() +
              dead_shared_expert("mlp.shared_experts", Size::expert_ffn, has_no_shared);
  f.keys = keys_of_latent_model() + latent_sizes() + rope_keys({.theta = 1e4}) +
           expert_keys("n_routed_experts", {"num_experts"}, "num_experts_per_tok", {}, "moe_intermediate_size") +
           Keys{shared_count_at_least_one("2"),
                dense_width("11008", width_of_active_experts),
                setting<&ModelConfig::dense_layers>("first_k_dense_replace", "0"),
                fixed("moe_layer_freq", 1, "1"),
                no_attention_bias(),
                fixed("mlp_bias", false, "false")} +
           choice_of_experts() + balance_loss();
  f.implies = [](Config& c) { c.model.attention = AttentionKind::mla; };
  f.settle = settle_dead_shared_expert;
  return f;
}

}  // namespace strand::hf
