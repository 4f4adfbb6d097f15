// The architectures of llama.cpp, one table each. What an architecture reads, and what it computes whatever the file
// says, follows from its loader and its graph in llama.cpp; scripts/gguf_parity.py compares all of them with llama.cpp.
#include "export/gguf_architectures.h"

#include <algorithm>

#include "export/requirements.h"
#include "export/tensor_rules.h"

namespace strand::gguf {

using hf::Layout;
using hf::Scope;
using hf::Size;
using hf::Storage;
using hf::TensorRule;
using hf::Tensors;

namespace {
// ---- Tensors --------------------------------------------------------------------------------------------------------

TensorRule tensor(Scope scope, const std::string& ours, const std::string& theirs, Size rows, Size columns = Size::none,
                  Layout layout = Layout::same) {
  return {.scope = scope, .ours = ours, .theirs = theirs, .rows = rows, .columns = columns, .layout = layout};
}

/// The same rules, for models of which `applies` is true.
Tensors only_if(bool (*applies)(const Config&), Tensors tensors) {
  for (TensorRule& rule : tensors) rule.applies = applies;
  return tensors;
}

/// What an architecture expects of a model whose head is its embedding.
enum class TiedHead { absent, written_twice };

Tensors embeddings(TiedHead tied) {
  Tensors out = {tensor(Scope::model, "embed_tokens.weight", "token_embd.weight", Size::vocab, Size::hidden),
                 tensor(Scope::model, "norm.weight", "output_norm.weight", Size::hidden)};
  const Tensors head = {tensor(Scope::model, "lm_head.weight", "output.weight", Size::vocab, Size::hidden)};
  const Tensors copy = {tensor(Scope::model, "embed_tokens.weight", "output.weight", Size::vocab, Size::hidden)};
  out = out + only_if(hf::has_head, head);
  return tied == TiedHead::written_twice ? out + only_if(hf::has_no_head, copy) : out;
}

Tensors attention(Layout rotary, const std::string& ffn_norm = "ffn_norm") {
  const auto rule = [](const char* ours, const std::string& theirs, Size rows, Size columns, Layout layout) {
    return tensor(Scope::every_layer, "layers.{n}." + std::string(ours) + ".weight", "blk.{n}." + theirs + ".weight",
                  rows, columns, layout);
  };
  return {rule("attn_norm", "attn_norm", Size::hidden, Size::none, Layout::same),
          rule("attn.q_proj", "attn_q", Size::queries, Size::hidden, rotary),
          rule("attn.k_proj", "attn_k", Size::keys, Size::hidden, rotary),
          rule("attn.v_proj", "attn_v", Size::keys, Size::hidden, Layout::same),
          rule("attn.o_proj", "attn_output", Size::hidden, Size::queries, Layout::same),
          rule("ffn_norm", ffn_norm, Size::hidden, Size::none, Layout::same)};
}

/// Latent attention. The projection to keys and values is two tensors, which llama.cpp multiplies queries and results
/// by instead of the latents.
Tensors latent_attention() {
  const auto rule = [](const std::string& ours, const std::string& theirs, Size rows, Size columns,
                       Layout layout = Layout::same) {
    return tensor(Scope::every_layer, "layers.{n}." + ours + ".weight", "blk.{n}." + theirs + ".weight", rows, columns,
                  layout);
  };
  const auto queries = Layout::latent_queries;
  const Tensors from_input = {rule("attn.q_proj", "attn_q", Size::queries, Size::hidden, queries)};
  const Tensors from_latent = {rule("attn.q_a_proj", "attn_q_a", Size::query_latent, Size::hidden),
                               rule("attn.q_a_norm", "attn_q_a_norm", Size::query_latent, Size::none),
                               rule("attn.q_b_proj", "attn_q_b", Size::queries, Size::query_latent, queries)};
  return Tensors{rule("attn_norm", "attn_norm", Size::hidden, Size::none)} +
         only_if(hf::has_no_query_latent, from_input) + only_if(hf::has_query_latent, from_latent) +
         Tensors{rule("attn.kv_a_proj", "attn_kv_a_mqa", Size::latent_and_key, Size::hidden, Layout::latent_and_key),
                 rule("attn.kv_a_norm", "attn_kv_a_norm", Size::key_latent, Size::none),
                 rule("attn.kv_b_proj", "attn_k_b", Size::keys_and_values, Size::key_latent, Layout::latent_keys),
                 rule("attn.kv_b_proj", "attn_v_b", Size::keys_and_values, Size::key_latent, Layout::latent_values),
                 rule("attn.o_proj", "attn_output", Size::hidden, Size::values),
                 rule("ffn_norm", "ffn_norm", Size::hidden, Size::none)};
}

Tensors query_and_key_norms(Size of_queries, Size of_keys) {
  return {tensor(Scope::every_layer, "layers.{n}.attn.q_norm.weight", "blk.{n}.attn_q_norm.weight", of_queries),
          tensor(Scope::every_layer, "layers.{n}.attn.k_norm.weight", "blk.{n}.attn_k_norm.weight", of_keys)};
}

/// The three matrices of a SwiGLU block. `suffix` is the last part of their names in the file.
Tensors swiglu(Scope scope, const std::string& ours, const std::string& suffix, Size width) {
  const auto rule = [&](const std::string& part, Size rows, Size columns) {
    return tensor(scope, "layers.{n}." + ours + "." + part + "_proj.weight", "blk.{n}.ffn_" + part + suffix + ".weight",
                  rows, columns);
  };
  return {rule("gate", width, Size::hidden), rule("up", width, Size::hidden), rule("down", Size::hidden, width)};
}

Tensors experts() {
  TensorRule router = tensor(Scope::moe_layer, "layers.{n}.moe.router.weight", "blk.{n}.ffn_gate_inp.weight",
                             Size::experts, Size::hidden);
  router.storage = Storage::always_f32;
  return Tensors{router} + swiglu(Scope::expert, "moe.experts.{e}", "_exps", Size::expert_ffn);
}

Tensors dense_layers() {
  return swiglu(Scope::dense_layer, "mlp", "", Size::dense_ffn);
}
Tensors shared_expert() {
  return only_if(hf::has_shared, swiglu(Scope::moe_layer, "moe.shared", "_shexp", Size::shared_ffn));
}

/// Constants for tensors that an architecture needs and our model does not have.
Tensors constants(Tensors tensors, float value) {
  for (TensorRule& rule : tensors) {
    rule.ours = "";
    rule.constant = value;
  }
  return tensors;
}
/// A shared expert whose output is exactly zero.
Tensors dead_shared_expert(Size width) {
  return constants(swiglu(Scope::moe_layer, "", "_shexp", width), 0);
}

/// The bias of expert selection: [E].
Tensors selection_bias() {
  return only_if(hf::has_bias,
                 {tensor(Scope::moe_layer, "layers.{n}.moe.router.bias", "blk.{n}.exp_probs_b.bias", Size::experts)});
}

// ---- Keys -----------------------------------------------------------------------------------------------------------

uint32_t whole(int64_t value) {
  return static_cast<uint32_t>(value);
}

/// The router's options that glm4moe and deepseek2 read.
void add_router_keys(const Config& c, const std::string& prefix, Metadata& out) {
  constexpr uint32_t softmax = 1, sigmoid = 2;  // llama_expert_gating_func_type
  out.add_u32(prefix + "expert_shared_count", whole(std::max<int64_t>(c.moe.shared_experts, 1)));
  out.add_u32(prefix + "leading_dense_block_count", whole(c.model.dense_layers));
  out.add_u32(prefix + "expert_gating_func", c.moe.score == RouterScore::softmax ? softmax : sigmoid);
  out.add_f32(prefix + "expert_weights_scale", static_cast<float>(c.moe.routed_scale));
  out.add_bool(prefix + "expert_weights_norm", c.moe.renormalize);
  if (c.moe.groups == 1) return;
  out.add_u32(prefix + "expert_group_count", whole(c.moe.groups));
  out.add_u32(prefix + "expert_group_used_count", whole(c.moe.groups_kept));
}

// ---- The architectures ----------------------------------------------------------------------------------------------

using Requirements = std::vector<hf::Requirement>;

/// Of all architectures. The two limits are constants of llama.cpp (LLAMA_MAX_LAYERS, LLAMA_MAX_EXPERTS).
Requirements common() {
  return {hf::some_moe_layer,
          {"model.num_layers: 512 or fewer", [](const Config& c) { return c.model.num_layers <= 512; }},
          {"moe.num_experts: 1024 or fewer", [](const Config& c) { return c.moe.num_experts <= 1024; }}};
}
/// llama.cpp reads no other ones.
const hf::Requirement usual_ramp = {
    "model.yarn_beta_fast: 32 and yarn_beta_slow: 1",
    [](const Config& c) { return !c.model.yarn() || (c.model.yarn_beta_fast == 32 && c.model.yarn_beta_slow == 1); }};

Requirements operator+(Requirements requirements, const Requirements& more) {
  requirements.insert(requirements.end(), more.begin(), more.end());
  return requirements;
}

/// Of all architectures but deepseek2: attention of heads, and YaRN as llama.cpp has it.
Requirements of_heads() {
  return common() + Requirements{hf::attention_of_heads,
                                 usual_ramp,
                                 {"model.yarn_mscale: 1 and yarn_mscale_all_dim: 0", [](const Config& c) {
                                    return !c.model.yarn() ||
                                           (c.model.yarn_mscale == 1 && c.model.yarn_mscale_all_dim == 0);
                                  }}};
}

/// Of all architectures but glm4moe and deepseek2.
Requirements plain_softmax() {
  return of_heads() + Requirements{hf::score(RouterScore::softmax), hf::no_groups, hf::no_scale, hf::whole_rotation};
}

/// Mixtral: rotates neighbours (2i, 2i + 1), and divides the routing weights by their sum.
Architecture llama() {
  return {"llama", ExpertWidth::feed_forward_length,
          plain_softmax() +
              Requirements{hf::renormalized, hf::qk_norm(QkNorm::none), hf::no_shared, hf::no_bias, hf::no_dense},
          embeddings(TiedHead::absent) + attention(Layout::rotary_interleaved) + experts()};
}

/// Divides the routing weights by their sum, whatever the file says.
Architecture qwen3moe() {
  return {
      "qwen3moe", ExpertWidth::expert_feed_forward_length,
      plain_softmax() +
          Requirements{hf::renormalized, hf::qk_norm(QkNorm::head), hf::no_shared, hf::no_bias, hf::no_dense},
      embeddings(TiedHead::absent) + attention(Layout::same) + query_and_key_norms(Size::head, Size::head) + experts()};
}

/// Never divides the routing weights by their sum. The norms of queries and keys are as wide as the model.
Architecture olmoe() {
  return {"olmoe", ExpertWidth::feed_forward_length,
          plain_softmax() + Requirements{hf::not_renormalized, hf::qk_norm(QkNorm::full), hf::no_shared, hf::no_bias,
                                         hf::no_dense, hf::heads_fill_width, hf::no_grouped_keys},
          embeddings(TiedHead::written_twice) + attention(Layout::same) +
              query_and_key_norms(Size::queries, Size::keys) + experts()};
}

/// Never divides the routing weights by their sum, and always has a shared expert behind a gate. The gate of the one
/// without effect is not zero, because llama.cpp computes sigmoid(z) as silu(z) / z.
Architecture qwen2moe() {
  const Tensors gate = {tensor(Scope::moe_layer, "", "blk.{n}.ffn_gate_inp_shexp.weight", Size::hidden)};
  return {"qwen2moe", ExpertWidth::expert_feed_forward_length,
          plain_softmax() + Requirements{hf::not_renormalized, hf::qk_norm(QkNorm::none), hf::no_shared, hf::no_bias,
                                         hf::no_dense, hf::heads_fill_width},
          embeddings(TiedHead::written_twice) + attention(Layout::same) + experts() +
              dead_shared_expert(Size::dead_ffn) + constants(gate, 1),
          [](const Config&, const std::string& prefix, Metadata& out) {
            out.add_u32(prefix + "expert_shared_feed_forward_length", hf::dead_shared_width);
          }};
}

/// DeepSeek-MoE: rotates neighbours, and never divides the routing weights by their sum. It always has a shared expert.
Architecture deepseek() {
  return {"deepseek", ExpertWidth::expert_feed_forward_length,
          plain_softmax() + Requirements{hf::not_renormalized, hf::qk_norm(QkNorm::none), hf::some_shared, hf::no_bias,
                                         hf::heads_fill_width},
          embeddings(TiedHead::absent) + attention(Layout::rotary_interleaved) + dense_layers() + experts() +
              shared_expert(),
          [](const Config& c, const std::string& prefix, Metadata& out) {
            out.add_u32(prefix + "expert_shared_count", whole(c.moe.shared_experts));
            out.add_u32(prefix + "leading_dense_block_count", whole(c.model.dense_layers));
            out.add_f32(prefix + "expert_weights_scale", 1.0F);
          }};
}

/// Rotates neighbours, and divides the routing weights by their sum.
Architecture ernie() {
  return {"ernie4_5-moe", ExpertWidth::expert_feed_forward_length,
          plain_softmax() + Requirements{hf::renormalized, hf::qk_norm(QkNorm::none)},
          embeddings(TiedHead::absent) + attention(Layout::rotary_interleaved) + dense_layers() + experts() +
              shared_expert() + selection_bias(),
          [](const Config& c, const std::string& prefix, Metadata& out) {
            out.add_u32(prefix + "expert_shared_feed_forward_length", whole(c.moe.shared_experts * c.moe.expert_ffn));
            out.add_u32(prefix + "expert_shared_count", whole(c.moe.shared_experts));
            out.add_u32(prefix + "interleave_moe_layer_step", 1);
            out.add_u32(prefix + "leading_dense_block_count", whole(c.model.dense_layers));
          }};
}

/// Reads every option of the router from the file, so it can express all models but those with norms over all heads.
/// It always has a selection bias and a shared expert.
Architecture glm4moe() {
  return {"glm4moe", ExpertWidth::expert_feed_forward_length, of_heads() + Requirements{hf::qk_norm_not_full},
          embeddings(TiedHead::absent) + attention(Layout::same, "post_attention_norm") +
              only_if(hf::has_head_norms, query_and_key_norms(Size::head, Size::head)) + dense_layers() + experts() +
              shared_expert() + only_if(hf::has_no_shared, dead_shared_expert(Size::expert_ffn)) + selection_bias() +
              only_if(hf::has_no_bias, constants(selection_bias(), 0)),
          add_router_keys};
}

/// DeepSeek-V2: latent attention. The norms of the latents have the epsilon of all others. Without a latent of the
/// queries, llama.cpp recognizes a model by its 26 or 27 layers. Under YaRN it computes with a pair of mscales that are
/// equal, whatever the file says. It always has a shared expert.
Architecture deepseek2() {
  const auto lite = [](const Config& c) {
    return (c.model.q_latent == 0) == (c.model.num_layers == 26 || c.model.num_layers == 27);
  };
  const auto equal_mscales = [](const Config& c) {
    return !c.model.yarn() || (c.model.yarn_mscale > 0 && c.model.yarn_mscale == c.model.yarn_mscale_all_dim);
  };
  return {"deepseek2", ExpertWidth::expert_feed_forward_length,
          common() + Requirements{hf::attention_of_latents,
                                  usual_ramp,
                                  {"model.yarn_mscale = yarn_mscale_all_dim, above 0", equal_mscales},
                                  {"model.norm_eps: 1e-6", [](const Config& c) { return c.model.norm_eps == 1e-6; }},
                                  {"model.num_layers: 26 or 27 with q_latent: 0, and another number without", lite}},
          embeddings(TiedHead::absent) + latent_attention() + dense_layers() + experts() + shared_expert() +
              only_if(hf::has_no_shared, dead_shared_expert(Size::expert_ffn)) + selection_bias(),
          [](const Config& c, const std::string& prefix, Metadata& out) {
            const ModelConfig& m = c.model;
            add_router_keys(c, prefix, out);
            if (m.q_latent > 0) out.add_u32(prefix + "attention.q_lora_rank", whole(m.q_latent));
            out.add_u32(prefix + "attention.kv_lora_rank", whole(m.kv_latent));
            out.add_u32(prefix + "attention.key_length_mla", whole(m.nope_head_dim + m.rope_head_dim));
            out.add_u32(prefix + "attention.value_length_mla", whole(m.value_head_dim));
            if (m.yarn())
              out.add_f32(prefix + "rope.scaling.yarn_log_multiplier", static_cast<float>(0.1 * m.yarn_mscale_all_dim));
          }};
}

/// Attention as llama.cpp sees it: in latent attention, one key and value for all heads, which is the latent.
void add_attention_keys(const ModelConfig& m, const std::string& prefix, Metadata& out) {
  out.add_u32(prefix + "attention.head_count", whole(m.num_heads));
  out.add_u32(prefix + "attention.head_count_kv", whole(m.latent() ? 1 : m.num_kv_heads));
  out.add_u32(prefix + "attention.key_length", whole(m.latent() ? m.kv_latent + m.rope_head_dim : m.head_dim));
  out.add_u32(prefix + "attention.value_length", whole(m.latent() ? m.kv_latent : m.head_dim));
  out.add_f32(prefix + "attention.layer_norm_rms_epsilon", static_cast<float>(m.norm_eps));
  out.add_u32(prefix + "rope.dimension_count", whole(m.rotary_dim()));
  out.add_f32(prefix + "rope.freq_base", static_cast<float>(m.rope_theta));
  if (!m.yarn()) return;
  out.add_string(prefix + "rope.scaling.type", "yarn");
  out.add_f32(prefix + "rope.scaling.factor", static_cast<float>(m.yarn_factor));
  out.add_u32(prefix + "rope.scaling.original_context_length", whole(m.yarn_original_length));
}

/// Where experts have a key of their own and the model has no dense layers, the number says nothing.
int64_t feed_forward_length(const Architecture& architecture, const Config& c) {
  if (architecture.expert_width == ExpertWidth::feed_forward_length) return c.moe.expert_ffn;
  return c.model.dense_layers > 0 ? c.model.dense_ffn : c.moe.top_k * c.moe.expert_ffn;
}
}  // namespace

const std::vector<Architecture>& architectures() {
  static const std::vector<Architecture> all = {llama(),    qwen3moe(), olmoe(),   qwen2moe(),
                                                deepseek(), ernie(),    glm4moe(), deepseek2()};
  return all;
}

const Architecture& architecture_for(const Config& config) {
  return hf::first_that_fits(
      architectures(), config, "no architecture of llama.cpp can express this model exactly",
      [](const Architecture& architecture) { return architecture.name; }, [](const Architecture&) { return true; });
}

void add_model_keys(const Architecture& architecture, const Config& config, Metadata& out) {
  const ModelConfig& m = config.model;
  const std::string prefix = architecture.name + ".";
  out.add_u32(prefix + "vocab_size", whole(m.vocab_size));
  out.add_u32(prefix + "context_length", whole(config.data.sequence_length));
  out.add_u32(prefix + "embedding_length", whole(m.hidden_size));
  out.add_u32(prefix + "block_count", whole(m.num_layers));
  out.add_u32(prefix + "feed_forward_length", whole(feed_forward_length(architecture, config)));
  add_attention_keys(m, prefix, out);
  out.add_u32(prefix + "expert_count", whole(config.moe.num_experts));
  out.add_u32(prefix + "expert_used_count", whole(config.moe.top_k));
  if (architecture.expert_width == ExpertWidth::expert_feed_forward_length)
    out.add_u32(prefix + "expert_feed_forward_length", whole(config.moe.expert_ffn));
  if (architecture.add_keys) architecture.add_keys(config, prefix, out);
}

}  // namespace strand::gguf
