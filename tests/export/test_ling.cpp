// Ling 2.0, whose class lies in code beside its checkpoints. Names and shapes are written out here from that code; the
// values are those of a model under strand's own names.
#include "foreign.h"

using namespace strand;
using namespace strand::test;
using Catch::Contains;
using nlohmann::json;

namespace {
/// A model as Ling 2.0 has it: V 11, D 20, L 3, H 4, G 2, A 8, E 16 in 4 groups, K 3, F 7.
Config ling() {
  Config c = config_of({"BailingMoeV2ForCausalLM", set_bailing});
  c.model.qk_norm = QkNorm::head;
  return c;
}

json ling_json() {
  return {{"architectures", {"BailingMoeV2ForCausalLM"}},
          {"model_type", "bailing_moe"},
          {"vocab_size", 11},
          {"hidden_size", 20},
          {"num_hidden_layers", 3},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 8},
          {"intermediate_size", 10},
          {"moe_intermediate_size", 7},
          {"moe_shared_expert_intermediate_size", 14},
          {"num_experts", 16},
          {"num_experts_per_tok", 3},
          {"num_shared_experts", 2},
          {"n_group", 4},
          {"topk_group", 2},
          {"first_k_dense_replace", 1},
          {"norm_topk_prob", true},
          {"routed_scaling_factor", 1.5},
          {"score_function", "sigmoid"},
          {"router_dtype", "fp32"},
          {"moe_router_enable_expert_bias", true},
          {"partial_rotary_factor", 0.75},
          {"rope_theta", 7000},
          {"rope_scaling", nullptr},
          {"max_position_embeddings", 16},
          {"rms_norm_eps", 3e-6},
          {"initializer_range", 0.03},
          {"use_qk_norm", true},
          {"use_qkv_bias", false},
          {"use_bias", false},
          {"hidden_act", "silu"},
          {"tie_word_embeddings", false},
          {"num_nextn_predict_layers", 0}};
}

/// Every tensor under Ling's names, from ours.
std::vector<NamedTensor> ling_tensors(const Foreign& model) {
  std::vector<NamedTensor> out;
  const auto add = [&](const std::string& theirs, const std::vector<int64_t>& shape,
                       const std::vector<std::string>& ours) {
    std::vector<float> values;
    for (const std::string& name : ours)
      for (const double value : model.ours(name)) values.push_back(static_cast<float>(value));
    out.push_back(tensor_of<float>(theirs, shape, values));
  };
  add("model.word_embeddings.weight", {11, 20}, {"embed_tokens.weight"});
  add("model.norm.weight", {20}, {"norm.weight"});
  add("lm_head.weight", {11, 20}, {"lm_head.weight"});
  const auto swiglu = [&](const std::string& theirs, const std::string& ours, int64_t width) {
    add(theirs + ".gate_proj.weight", {width, 20}, {ours + ".gate_proj.weight"});
    add(theirs + ".up_proj.weight", {width, 20}, {ours + ".up_proj.weight"});
    add(theirs + ".down_proj.weight", {20, width}, {ours + ".down_proj.weight"});
  };
  for (int n = 0; n < 3; ++n) {
    const std::string theirs = fmt::format("model.layers.{}.", n), ours = fmt::format("layers.{}.", n);
    add(theirs + "input_layernorm.weight", {20}, {ours + "attn_norm.weight"});
    add(theirs + "post_attention_layernorm.weight", {20}, {ours + "ffn_norm.weight"});
    // 4 heads of queries, 2 of keys and 2 of values, 8 rows each
    add(theirs + "attention.query_key_value.weight", {64, 20},
        {ours + "attn.q_proj.weight", ours + "attn.k_proj.weight", ours + "attn.v_proj.weight"});
    add(theirs + "attention.query_layernorm.weight", {8}, {ours + "attn.q_norm.weight"});
    add(theirs + "attention.key_layernorm.weight", {8}, {ours + "attn.k_norm.weight"});
    add(theirs + "attention.dense.weight", {20, 32}, {ours + "attn.o_proj.weight"});
    if (n == 0) {
      swiglu(theirs + "mlp", ours + "mlp", 10);
      continue;
    }
    add(theirs + "mlp.gate.weight", {16, 20}, {ours + "moe.router.weight"});
    add(theirs + "mlp.gate.expert_bias", {16}, {ours + "moe.router.bias"});
    swiglu(theirs + "mlp.shared_experts", ours + "moe.shared", 14);
    for (int e = 0; e < 16; ++e)
      swiglu(fmt::format("{}mlp.experts.{}", theirs, e), fmt::format("{}moe.experts.{}", ours, e), 7);
  }
  return out;
}

/// A directory `hf` as Ling's checkpoints are.
struct LingModel : Foreign {
  LingModel() : Foreign(ling()) {
    put(dir / "hf/config.json", ling_json().dump());
    edit_tensors([&](std::vector<NamedTensor>& tensors) { tensors = ling_tensors(*this); });
  }
};
}  // namespace

TEST_CASE("Ling 2.0: read under its own names, written as Glm4MoeForCausalLM") {
  const LingModel foreign;
  const hf::ImportSummary summary = hf::import_model(foreign.dir / "hf", foreign.dir / "imported");
  CHECK(summary.class_name == "BailingMoeV2ForCausalLM");
  CHECK(summary.notes.empty());
  require_same_model(foreign, summary);
  const Checkpoint imported(summary.checkpoint);
  CHECK(hf::export_model(imported, summary.config, foreign.dir / "out").class_name == "Glm4MoeForCausalLM");
  // The same model, which was never under Ling's names.
  const Foreign plain(ling());
  CHECK(get(foreign.dir / "out/model.safetensors") == get(plain.dir / "hf/model.safetensors"));
  CHECK(get(foreign.dir / "out/config.json") == get(plain.dir / "hf/config.json"));
}

TEST_CASE("Ling 2.0: layers that predict further tokens are left out with a line") {
  const LingModel foreign;
  foreign.edit_config([](json& c) { c["num_nextn_predict_layers"] = 1; });
  foreign.edit_tensors([](auto& t) {
    for (const char* name : {"eh_proj.weight", "enorm.weight", "hnorm.weight", "final_layernorm.weight",
                             "attention.query_key_value.weight", "mlp.gate.expert_bias"})
      t.push_back(tensor_of<float>(std::string("model.layers.3.") + name, {1}, {1}));
  });
  const hf::ImportSummary summary = hf::import_model(foreign.dir / "hf", foreign.dir / "imported");
  CHECK(count_of(summary.notes, "left out: 6 tensors, of layers that predict further tokens (MTP)") == 1);
  require_same_model(foreign, summary);
}

TEST_CASE("Ling 2.0: one group, all groups, a single expert, no bias") {
  const LingModel foreign;
  const auto read = [&](const std::function<void(json&)>& edit, const std::string& out) {
    foreign.edit_config(edit);
    return hf::import_model(foreign.dir / "hf", foreign.dir / out).config.moe;
  };
  CHECK(read([](json& c) { c["n_group"] = c["topk_group"] = 1; }, "one").groups == 1);
  const MoeConfig all = read([](json& c) { c["n_group"] = c["topk_group"] = 4; }, "all");
  CHECK(all.groups == 1);
  CHECK(all.groups_kept == 1);
  CHECK_FALSE(read([](json& c) { c["num_experts_per_tok"] = 1; }, "single").renormalize);
  foreign.edit_tensors([](auto& t) {
    for (const char* layer : {"1", "2"}) {
      const std::string name = fmt::format("model.layers.{}.mlp.gate.expert_bias", layer);
      named(t, name) = tensor_of<float>(name, {16}, std::vector<float>(16, 0));
    }
  });
  CHECK(read([](json& c) { c["num_experts_per_tok"] = 3; }, "unbiased").bias_rate == 0);
}

TEST_CASE("Ling 2.0: files that are damaged or quantized, by tensor") {
  const LingModel foreign;
  const std::string qkv = "model.layers.1.attention.query_key_value.weight";
  SECTION("a part of attention is missing") {
    foreign.edit_tensors([&](auto& t) { std::erase_if(t, [&](auto& x) { return x.name == qkv; }); });
    const std::string refusal = foreign.refusal();
    CHECK_THAT(refusal, Contains("missing: " + qkv));
    CHECK(refusal.find(qkv) == refusal.rfind(qkv));
  }
  SECTION("of another shape") {
    foreign.edit_tensors([&](auto& t) { named(t, qkv).shape = {40, 32}; });
    CHECK_THAT(foreign.refusal(), Contains(qkv) && Contains("[40, 32]") && Contains("[64, 20]"));
  }
  SECTION("no bias") {
    const std::string bias = "model.layers.2.mlp.gate.expert_bias";
    foreign.edit_tensors([&](auto& t) { std::erase_if(t, [&](auto& x) { return x.name == bias; }); });
    CHECK_THAT(foreign.refusal(), Contains("missing: " + bias));
  }
  SECTION("scales of fp8") {
    foreign.edit_tensors([&](auto& t) { t.push_back(tensor_of<float>(qkv + "_scale_inv", {1, 1}, {1})); });
    CHECK_THAT(foreign.refusal(), Contains(qkv + "_scale_inv") && Contains("fp8") && Contains("bf16"));
  }
  SECTION("fp8 itself") {
    std::string bytes = get(foreign.dir / "hf/model.safetensors");
    const size_t at = bytes.find("\"dtype\":\"F32\"", bytes.find(qkv));
    REQUIRE(at != std::string::npos);
    bytes.replace(at, 13, "\"dtype\":\"F8_E4M3\"");
    const size_t shape = bytes.find("[64,20]", at);
    REQUIRE(shape != std::string::npos);
    bytes.replace(shape, 7, "[64,80]");  // as many bytes
    uint64_t header = 0;
    std::memcpy(&header, bytes.data(), 8);
    header += 4;
    std::memcpy(bytes.data(), &header, 8);
    put(foreign.dir / "hf/model.safetensors", bytes);
    CHECK_THAT(foreign.refusal(), Contains(qkv) && Contains("F8_E4M3") && Contains("BF16"));
  }
}

TEST_CASE("Ling 2.0: configurations that our models cannot follow, by key") {
  const LingModel foreign;
  const auto refuses = [&](const char* key, const json& value, const std::string& why) {
    check_refused(foreign, ling_json(), key, value, why);
  };
  refuses("use_qkv_bias", true, "false");
  refuses("use_bias", true, "false");
  refuses("score_function", "softmax", "sigmoid");
  refuses("norm_topk_prob", false, "always divides");
  refuses("router_dtype", "bf16", "fp32");
  refuses("moe_router_enable_expert_bias", false, "always adds");
  refuses("moe_shared_expert_intermediate_size", 7, "is 14");
  refuses("rotary_dim", 8, "make it 6");
  refuses("rope_scaling", {{"type", "linear"}, {"factor", 2.0}}, "linear");
  refuses("quantization_config", {{"quant_method", "fp8"}}, "bf16");
  refuses("hidden_act", "gelu", "silu");
  json odd = ling_json();
  odd["n_group"] = 5;
  put(foreign.dir / "hf/config.json", odd.dump());
  CHECK_THAT(foreign.refusal(), Contains("moe.groups"));
}
