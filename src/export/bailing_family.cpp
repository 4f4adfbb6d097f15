// BailingMoeV2ForCausalLM: Ling 2.0. The class lies in code that comes with its checkpoints, not in transformers, so it
// is read and never written: Glm4MoeForCausalLM computes the same and is a class of transformers.
//
// Source: modeling_bailing_moe_v2.py of inclusionAI/Ling-V2, and for keys that are not there the defaults of
// configuration_bailing_moe_v2.py.
#include <fmt/format.h>

#include "core/error.h"
#include "export/family_tables.h"

namespace strand::hf {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {
/// One of the parts of attention.query_key_value, whose rows are those of all queries, all keys, all values.
TensorRule part_of_attention(const std::string& ours, Size rows, std::vector<Size> above, std::vector<Size> below) {
  return {.scope = Scope::every_layer,
          .ours = "layers.{n}.attn." + ours + ".weight",
          .theirs = "model.layers.{n}.attention.query_key_value.weight",
          .rows = rows,
          .columns = Size::hidden,
          .rows_above = std::move(above),
          .rows_below = std::move(below)};
}

/// The tensors outside the FFN.
Tensors attention_and_embeddings() {
  Tensors tensors = llama_tensors();
  std::erase_if(tensors, [](const TensorRule& rule) { return rule.ours.find("_proj") != std::string::npos; });
  for (TensorRule& rule : tensors)
    if (rule.ours == "embed_tokens.weight") rule.theirs = "model.word_embeddings.weight";
  Tensors norms = qk_norms(Size::head, Size::head, has_head_norms);
  norms[0].theirs = "model.layers.{n}.attention.query_layernorm.weight";
  norms[1].theirs = "model.layers.{n}.attention.key_layernorm.weight";
  return tensors + norms +
         Tensors{part_of_attention("q_proj", Size::queries, {}, {Size::keys, Size::keys}),
                 part_of_attention("k_proj", Size::keys, {Size::queries}, {Size::keys}),
                 part_of_attention("v_proj", Size::keys, {Size::queries, Size::keys}, {}),
                 {Scope::every_layer, "layers.{n}.attn.o_proj.weight", "model.layers.{n}.attention.dense.weight",
                  Size::hidden, Size::queries}};
}

/// The class takes the width of shared experts from other keys. A file in which this one says something else is
/// damaged.
ConfigKey shared_width() {
  return {"moe_shared_expert_intermediate_size",
          [](const Config& c) { return ordered_json(c.moe.shared_experts * c.moe.expert_ffn); },
          [](const json& v, Config& c) {
            const int64_t width = c.moe.shared_experts * c.moe.expert_ffn;
            require(v.is_null() || whole_number(v) == width,
                    "{}, but num_shared_experts times moe_intermediate_size is {}", v.dump(), width);
          },
          "null",
          {}};
}

/// A name for the rotated part of a head that some files have and the class does not look at.
ConfigKey rotary_dim() {
  return {"rotary_dim",
          nullptr,
          [](const json& v, Config& c) {
            const double rotated = c.model.rope_fraction * static_cast<double>(c.model.head_dim);
            require(v.is_null() || c.model.head_dim == 0 || real_number(v) == rotated,
                    "{}, but partial_rotary_factor and head_dim make it {}; the class follows these", v.dump(),
                    rotated);
          },
          "null",
          {}};
}

/// Of a key to which the class pays no attention, the only value that says what the class does.
ConfigKey always(std::string name, json value, std::string what) {
  const auto check = [value = std::move(value), what = std::move(what)](const json& v) {
    require(v.is_null() || v == value, "{}, but the class {}", v.dump(), what);
  };
  return foreign(std::move(name), check);
}

Keys keys() {
  const ConfigKey qk_norm = {"use_qk_norm",
                             [](const Config& c) { return ordered_json(c.model.qk_norm == QkNorm::head); },
                             [](const json& v, Config& c) { c.model.qk_norm = truth(v) ? QkNorm::head : QkNorm::none; },
                             "true",
                             {}};
  return common_keys({.tied = "false", .norm_eps = "1e-6", .kv_heads = "4", .positions = "32768", .head_dim = "128"}) +
         rope_keys({.partial = PartialRotary::yes, .theta = 6e5}) +
         expert_keys("num_experts", {}, "num_experts_per_tok", {}, "moe_intermediate_size") +
         Keys{rotary_dim(),
              shared_count("num_shared_experts", "1"),
              shared_width(),
              dense_width("5120", width_of_active_experts),
              setting<&ModelConfig::dense_layers>("first_k_dense_replace", "1"),
              setting<&MoeConfig::routed_scale>("routed_scaling_factor", "1.0"),
              setting<&MoeConfig::groups>("n_group", "8"),
              setting<&MoeConfig::groups_kept>("topk_group", "4"),
              qk_norm,
              fixed("use_qkv_bias", false, "false"),
              fixed("use_bias", false, "false"),
              fixed("score_function", "sigmoid", "\"sigmoid\""),
              always("norm_topk_prob", true, "always divides routing weights by their sum"),
              always("router_dtype", "fp32", "always computes the router in fp32"),
              always("moe_router_enable_expert_bias", true, "always adds a bias to the scores"),
              remark("num_nextn_predict_layers", 0)};
}
}  // namespace

Family bailing_moe_v2() {
  Family f{"BailingMoeV2ForCausalLM", "bailing_moe", {}, {}, {}};
  f.written = Written::never;
  f.tensors = attention_and_embeddings() + dense_layers() + experts() + shared_experts() +
              selection_bias("mlp.gate.expert_bias", Layout::same);
  f.keys = keys();
  f.leftovers = {prediction_layers()};
  f.implies = [](Config& c) { c.moe.score = RouterScore::sigmoid; };
  f.settle = [](Config& c, const AllZero& all_zero) {
    c.moe.renormalize = c.moe.top_k > 1;
    c.moe.bias_rate = all_zero("model.layers.{n}.mlp.gate.expert_bias") ? 0.0 : usual_bias_rate;
  };
  return f;
}

}  // namespace strand::hf
