// DeepseekForCausalLM: DeepSeek-MoE. The class lies in code that comes with its checkpoints, not in transformers. vLLM
// and llama.cpp know it; for transformers, Ernie4_5_MoeForCausalLM computes the same.
//
// Source: modeling_deepseek.py and configuration_deepseek.py of deepseek-ai/deepseek-moe-16b-base.
#include "core/error.h"
#include "export/family_tables.h"

namespace strand::hf {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {
constexpr auto m = &Config::model;
using M = ModelConfig;

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
  f.requirements = {no_groups,
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
           rope_keys(PartialRotary::no, 1e4) +
           expert_keys("n_routed_experts", {}, "num_experts_per_tok", {}, "moe_intermediate_size") +
           Keys{shared_count("n_shared_experts", "null"),
                dense_width("11008", width_of_active_experts),
                integer<m, &M::dense_layers>("first_k_dense_replace", "0"),
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

}  // namespace strand::hf
