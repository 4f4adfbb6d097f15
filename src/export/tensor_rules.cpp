#include "export/tensor_rules.h"

#include <fmt/core.h>

#include <charconv>

#include "checkpoint/tensor_source.h"

namespace strand::hf {

namespace {
TensorRule embedding(bool (*applies)(const Config&), std::vector<std::string> aliases) {
  return {.scope = Scope::model,
          .ours = "embed_tokens.weight",
          .theirs = "model.embed_tokens.weight",
          .rows = Size::vocab,
          .columns = Size::hidden,
          .applies = applies,
          .aliases = std::move(aliases)};
}

Tensors swiglu(Scope scope, const std::string& ours, const std::string& theirs, Size width,
               bool (*applies)(const Config&) = nullptr) {
  const auto matrix = [&](const char* name, Size rows, Size columns) {
    return TensorRule{.scope = scope,
                      .ours = "layers.{n}." + ours + name,
                      .theirs = "model.layers.{n}." + theirs + name,
                      .rows = rows,
                      .columns = columns,
                      .applies = applies};
  };
  return {matrix(".gate_proj.weight", width, Size::hidden), matrix(".up_proj.weight", width, Size::hidden),
          matrix(".down_proj.weight", Size::hidden, width)};
}
}  // namespace

Tensors operator+(Tensors tensors, const Tensors& more) {
  tensors.insert(tensors.end(), more.begin(), more.end());
  return tensors;
}

Tensors llama_tensors(Layout rotary) {
  const std::string to = "model.layers.{n}.";
  return {
      embedding(has_head, {}),
      embedding(has_no_head, {"lm_head.weight"}),  // files of a tied model may have either name
      {Scope::every_layer, "layers.{n}.attn_norm.weight", to + "input_layernorm.weight", Size::hidden},
      {Scope::every_layer, "layers.{n}.attn.q_proj.weight", to + "self_attn.q_proj.weight", Size::queries, Size::hidden,
       rotary},
      {Scope::every_layer, "layers.{n}.attn.k_proj.weight", to + "self_attn.k_proj.weight", Size::keys, Size::hidden,
       rotary},
      {Scope::every_layer, "layers.{n}.attn.v_proj.weight", to + "self_attn.v_proj.weight", Size::keys, Size::hidden},
      {Scope::every_layer, "layers.{n}.attn.o_proj.weight", to + "self_attn.o_proj.weight", Size::hidden,
       Size::queries},
      {Scope::every_layer, "layers.{n}.ffn_norm.weight", to + "post_attention_layernorm.weight", Size::hidden},
      {Scope::model, "norm.weight", "model.norm.weight", Size::hidden},
      {.scope = Scope::model,
       .ours = "lm_head.weight",
       .theirs = "lm_head.weight",
       .rows = Size::vocab,
       .columns = Size::hidden,
       .applies = has_head},
  };
}

Tensors qk_norms(Size of_queries, Size of_keys, bool (*applies)(const Config&)) {
  return {{.scope = Scope::every_layer,
           .ours = "layers.{n}.attn.q_norm.weight",
           .theirs = "model.layers.{n}.self_attn.q_norm.weight",
           .rows = of_queries,
           .applies = applies},
          {.scope = Scope::every_layer,
           .ours = "layers.{n}.attn.k_norm.weight",
           .theirs = "model.layers.{n}.self_attn.k_norm.weight",
           .rows = of_keys,
           .applies = applies}};
}

Tensors experts(const ExpertNames& names) {
  const std::string layer = "model.layers.{n}.", block = layer + names.block, expert = block + ".experts.{e}.";
  const std::string fused = layer + "mlp.experts.";  // in memory, Mixtral's block has the common name too
  std::vector<std::string> router_aliases;
  if (names.block != "mlp") router_aliases = {layer + "mlp.gate.weight"};
  const auto ours = [](const char* part) { return fmt::format("layers.{{n}}.moe.experts.{{e}}.{}_proj.weight", part); };
  return {
      {.scope = Scope::moe_layer,
       .ours = "layers.{n}.moe.router.weight",
       .theirs = block + ".gate.weight",
       .rows = Size::experts,
       .columns = Size::hidden,
       .storage = Storage::always_f32,
       .aliases = router_aliases},
      {.scope = Scope::expert,
       .ours = ours("gate"),
       .theirs = expert + names.gate + ".weight",
       .rows = Size::expert_ffn,
       .columns = Size::hidden,
       .fused = {fused + "gate_up_proj", 0, 2}},
      {.scope = Scope::expert,
       .ours = ours("up"),
       .theirs = expert + names.up + ".weight",
       .rows = Size::expert_ffn,
       .columns = Size::hidden,
       .fused = {fused + "gate_up_proj", 1, 2}},
      {.scope = Scope::expert,
       .ours = ours("down"),
       .theirs = expert + names.down + ".weight",
       .rows = Size::hidden,
       .columns = Size::expert_ffn,
       .fused = {fused + "down_proj", 0, 1}},
  };
}

Tensors dense_layers() {
  return swiglu(Scope::dense_layer, "mlp", "mlp", Size::dense_ffn);
}
Tensors shared_experts() {
  return swiglu(Scope::moe_layer, "moe.shared", "mlp.shared_experts", Size::shared_ffn, has_shared);
}

TensorRule constant(Scope scope, const std::string& name, Size rows, Size columns, float value) {
  return {.scope = scope, .theirs = "model.layers.{n}." + name, .rows = rows, .columns = columns, .constant = value};
}

Tensors dead_shared_expert(const std::string& name, Size width, bool (*applies)(const Config&)) {
  Tensors matrices = {constant(Scope::moe_layer, name + ".gate_proj.weight", width, Size::hidden, 0),
                      constant(Scope::moe_layer, name + ".up_proj.weight", width, Size::hidden, 0),
                      constant(Scope::moe_layer, name + ".down_proj.weight", Size::hidden, width, 0)};
  for (TensorRule& matrix : matrices) matrix.applies = applies;
  return matrices;
}

Tensors selection_bias(const std::string& name, Layout layout, const std::string& alias) {
  TensorRule bias = {.scope = Scope::moe_layer,
                     .ours = "layers.{n}.moe.router.bias",
                     .theirs = "model.layers.{n}." + name,
                     .rows = Size::experts,
                     .layout = layout,
                     .storage = Storage::always_f32,
                     .applies = has_bias};
  if (!alias.empty()) bias.aliases = {"model.layers.{n}." + alias};
  TensorRule zeros = bias;
  zeros.ours = "";
  zeros.applies = has_no_bias;
  return {bias, zeros};
}

int64_t layer_in(const std::string& name) {
  const std::string prefix = "model.layers.";
  if (!name.starts_with(prefix)) return -1;
  int64_t layer = -1;
  const char* const end = name.data() + name.size();
  const auto [after, error] = std::from_chars(name.data() + prefix.size(), end, layer);
  return error == std::errc() && after != end && *after == '.' ? layer : -1;
}

LeftoverRule prediction_layers() {
  return {"of layers that predict further tokens (MTP)", [](const std::string& name, const LeftoverContext& c) {
            const int64_t layer = layer_in(name), layers = c.config.model.num_layers;
            if (layer < layers) return false;
            return layer - layers < c.prediction_layers ||
                   c.source.items().contains(fmt::format("model.layers.{}.eh_proj.weight", layer));
          }};
}

LeftoverRule prediction_blocks() {
  return {"of blocks that predict further tokens (MTP)",
          [](const std::string& name, const LeftoverContext&) { return name.find("mtp") != std::string::npos; }};
}

}  // namespace strand::hf
