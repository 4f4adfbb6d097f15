// Ling 2.0 and DeepSeek-MoE, whose classes lie in code beside their checkpoints, and DeepSeek-V2-Lite. Names and shapes
// are written out here from that code; the values are those of a model under strand's own names.
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

void require_same_model(const Foreign& foreign, const hf::ImportSummary& summary) {
  const Checkpoint before(foreign.dir / "run/step_00000000"), after(summary.checkpoint);
  REQUIRE(before.model().items().size() == after.model().items().size());
  for (const auto& [name, item] : before.model().items()) {
    INFO(name);
    CHECK(after.model().at(name).entry->shape == item.entry->shape);
    CHECK(numbers(after.model(), name) == numbers(before.model(), name));
  }
  const Config read = checkpoint_config(after);
  CHECK(read.model == foreign.config.model);
  CHECK(read.moe == foreign.config.moe);
}
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
  const auto refuses = [&](const char* key, const json& value, const std::string& says) {
    INFO(key << " = " << value);
    json changed = ling_json();
    changed[key] = value;
    put(foreign.dir / "hf/config.json", changed.dump());
    CHECK_THAT(foreign.refusal(), Contains("config.json: " + std::string(key)) && Contains(says));
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

TEST_CASE("DeepSeek-MoE: written under its own names, as which it is read") {
  const Config config = config_of({"DeepseekForCausalLM", set_deepseek});
  const Foreign foreign(config, "", "DeepseekForCausalLM");
  const TensorSource written(foreign.dir / "hf", "model");
  std::map<std::string, std::string> same = {{"model.embed_tokens.weight", "embed_tokens.weight"},
                                             {"model.norm.weight", "norm.weight"},
                                             {"lm_head.weight", "lm_head.weight"}};
  const auto swiglu = [&](const std::string& theirs, const std::string& ours) {
    for (const char* part : {".gate_proj.weight", ".up_proj.weight", ".down_proj.weight"})
      same[theirs + part] = ours + part;
  };
  for (int n = 0; n < 3; ++n) {
    const std::string theirs = fmt::format("model.layers.{}.", n), ours = fmt::format("layers.{}.", n);
    same[theirs + "input_layernorm.weight"] = ours + "attn_norm.weight";
    same[theirs + "post_attention_layernorm.weight"] = ours + "ffn_norm.weight";
    for (const char* part : {"q", "k", "v", "o"})
      same[fmt::format("{}self_attn.{}_proj.weight", theirs, part)] = fmt::format("{}attn.{}_proj.weight", ours, part);
    if (n == 0) {
      swiglu(theirs + "mlp", ours + "mlp");
      continue;
    }
    same[theirs + "mlp.gate.weight"] = ours + "moe.router.weight";
    swiglu(theirs + "mlp.shared_experts", ours + "moe.shared");
    for (int e = 0; e < 5; ++e)
      swiglu(fmt::format("{}mlp.experts.{}", theirs, e), fmt::format("{}moe.experts.{}", ours, e));
  }
  CHECK(written.items().size() == same.size());
  for (const auto& [theirs, ours] : same) {
    INFO(theirs);
    REQUIRE(written.items().contains(theirs));
    CHECK(numbers(written, theirs) == foreign.ours(ours));
  }
  const json c = read_json(foreign.dir / "hf/config.json");
  CHECK(c["architectures"] == json::array({"DeepseekForCausalLM"}));
  CHECK(c["n_routed_experts"] == 5);
  CHECK(c["n_shared_experts"] == 3);
  CHECK(c["first_k_dense_replace"] == 1);
  CHECK(c["norm_topk_prob"] == false);
  CHECK(c["scoring_func"] == "softmax");

  const hf::ImportSummary summary = hf::import_model(foreign.dir / "hf", foreign.dir / "imported");
  CHECK(summary.class_name == "DeepseekForCausalLM");
  require_same_model(foreign, summary);
  const Checkpoint imported(summary.checkpoint);
  const hf::ExportSummary again = hf::export_model(imported, summary.config, foreign.dir / "again");
  CHECK(again.class_name == "DeepseekForCausalLM");  // as it came
  CHECK(count_of(again.caveats, "--class Ernie4_5_MoeForCausalLM") == 1);
  CHECK(get(foreign.dir / "again/model.safetensors") == get(foreign.dir / "hf/model.safetensors"));

  const hf::ExportSummary ernie =
      hf::export_model(imported, summary.config, foreign.dir / "ernie", {.class_name = "Ernie4_5_MoeForCausalLM"});
  CHECK(count_of(ernie.caveats, "vLLM") == 1);
  const Foreign plain(config);  // which was never imported
  CHECK(read_json(plain.dir / "hf/config.json")["architectures"] == json::array({"Ernie4_5_MoeForCausalLM"}));
  CHECK(get(foreign.dir / "ernie/model.safetensors") == get(plain.dir / "hf/model.safetensors"));
}

TEST_CASE("DeepSeek-MoE: without shared experts, with renormalized weights, with a single expert") {
  Config config = config_of({"DeepseekForCausalLM", set_deepseek});
  config.moe.shared_experts = 0;
  config.moe.renormalize = true;
  const Foreign foreign(config, "", "DeepseekForCausalLM");
  CHECK(read_json(foreign.dir / "hf/config.json")["n_shared_experts"].is_null());
  const hf::ImportSummary summary = hf::import_model(foreign.dir / "hf", foreign.dir / "imported");
  require_same_model(foreign, summary);
  foreign.edit_config([](json& c) { c["num_experts_per_tok"] = 1; });
  CHECK_FALSE(hf::import_model(foreign.dir / "hf", foreign.dir / "single").config.moe.renormalize);
}

TEST_CASE("DeepSeek-MoE: configurations that our models cannot follow, by key") {
  const Foreign foreign(config_of({"DeepseekForCausalLM", set_deepseek}), "", "DeepseekForCausalLM");
  const json whole = read_json(foreign.dir / "hf/config.json");
  const auto refuses = [&](const char* key, const json& value, const std::string& says) {
    INFO(key << " = " << value);
    json changed = whole;
    changed[key] = value;
    put(foreign.dir / "hf/config.json", changed.dump());
    CHECK_THAT(foreign.refusal(), Contains("config.json: " + std::string(key)) && Contains(says));
  };
  refuses("moe_layer_freq", 2, "only know 1");
  refuses("scoring_func", "sigmoid", "softmax");
  refuses("attention_bias", true, "false");
  refuses("n_routed_experts", nullptr, "whole number");
  refuses("rope_scaling", {{"type", "dynamic"}, {"factor", 2.0}}, "dynamic");
}

namespace {
/// Row `row` of a matrix of `columns`.
std::vector<double> row_of(const std::vector<double>& matrix, int64_t columns, int64_t row) {
  return {matrix.begin() + row * columns, matrix.begin() + (row + 1) * columns};
}
}  // namespace

TEST_CASE("DeepSeek-V2: names and shapes, rows of rotated neighbours") {
  Config config = config_of({"DeepseekV2ForCausalLM", set_deepseek_v2});
  SECTION("queries from the input") {}
  SECTION("queries from a latent") {
    config.model.q_latent = 8;
  }
  const Foreign foreign(config);
  const TensorSource written(foreign.dir / "hf", "model");
  const bool latent = config.model.q_latent > 0;
  const std::string theirs = "model.layers.1.self_attn.", ours = "layers.1.attn.";
  const auto shape = [&](const std::string& name) { return written.at(theirs + name).entry->shape; };
  using Shape = std::vector<int64_t>;
  CHECK(shape("kv_a_proj_with_mqa.weight") == Shape{15, 20});
  CHECK(shape("kv_a_layernorm.weight") == Shape{9});
  CHECK(shape("kv_b_proj.weight") == Shape{36, 9});
  CHECK(shape("o_proj.weight") == Shape{20, 20});
  if (latent) {
    CHECK(shape("q_a_proj.weight") == Shape{8, 20});
    CHECK(shape("q_a_layernorm.weight") == Shape{8});
    CHECK(shape("q_b_proj.weight") == Shape{40, 8});
  } else {
    CHECK(shape("q_proj.weight") == Shape{40, 20});
  }
  std::map<std::string, std::string> same = {{"kv_a_layernorm.weight", "kv_a_norm.weight"},
                                             {"kv_b_proj.weight", "kv_b_proj.weight"},
                                             {"o_proj.weight", "o_proj.weight"}};
  if (latent) {
    same["q_a_proj.weight"] = "q_a_proj.weight";
    same["q_a_layernorm.weight"] = "q_a_norm.weight";
  }
  for (const auto& [a, b] : same) CHECK(numbers(written, theirs + a) == foreign.ours(ours + b));
  // Of 10 rows of a head, the last 6 are rotated; of 15 of the key, the last 6 too.
  const int64_t neighbours[] = {0, 3, 1, 4, 2, 5};
  const auto is_permuted = [&](const std::string& name, const std::string& our_name, int64_t columns, int64_t block,
                               int64_t blocks) {
    const std::vector<double> out = numbers(written, theirs + name), in = foreign.ours(ours + our_name);
    for (int64_t b = 0; b < blocks; ++b) {
      for (int64_t i = 0; i < block; ++i) {
        const int64_t turning = i - (block - 6), from = turning < 0 ? i : block - 6 + neighbours[turning];
        CHECK(row_of(out, columns, b * block + i) == row_of(in, columns, b * block + from));
      }
    }
  };
  const std::string queries = latent ? "q_b_proj.weight" : "q_proj.weight";
  is_permuted(queries, queries, latent ? 8 : 20, 10, 4);
  is_permuted("kv_a_proj_with_mqa.weight", "kv_a_proj.weight", 20, 15, 1);

  const json c = read_json(foreign.dir / "hf/config.json");
  CHECK(c["q_lora_rank"] == (latent ? json(8) : json(nullptr)));
  CHECK(c["kv_lora_rank"] == 9);
  CHECK(c["qk_nope_head_dim"] == 4);
  CHECK(c["qk_rope_head_dim"] == 6);
  CHECK(c["v_head_dim"] == 5);
  CHECK(c["topk_method"] == "greedy");
  CHECK(c["max_position_embeddings"] == 16);
  const json scaling = {
      {"rope_type", "yarn"}, {"type", "yarn"},   {"factor", 4.0}, {"original_max_position_embeddings", 4},
      {"beta_fast", 16.0},   {"beta_slow", 0.5}, {"mscale", 0.7}, {"mscale_all_dim", 0.9}};
  CHECK(c["rope_scaling"] == scaling);
  require_same_model(foreign, hf::import_model(foreign.dir / "hf", foreign.dir / "imported"));
}

TEST_CASE("DeepSeek-V2: a shared expert without effect, groups that are all kept") {
  Config config = config_of({"DeepseekV2ForCausalLM", set_deepseek_v2});
  config.moe.shared_experts = 0;
  const Foreign foreign(config);
  foreign.edit_config([](json& c) {
    c["topk_method"] = "group_limited_greedy";
    c["n_group"] = c["topk_group"] = 5;
  });
  require_same_model(foreign, hf::import_model(foreign.dir / "hf", foreign.dir / "imported"));
}

TEST_CASE("DeepSeek-V2: configurations that our models cannot follow, by key") {
  const Foreign foreign(config_of({"DeepseekV2ForCausalLM", set_deepseek_v2}));
  json whole = read_json(foreign.dir / "hf/config.json");
  whole["n_group"] = 5;  // to which greedy pays no attention
  whole["topk_group"] = 2;
  const auto refuses = [&](const char* key, const json& value, const std::string& says) {
    INFO(key << " = " << value);
    json changed = whole;
    changed[key] = value;
    put(foreign.dir / "hf/config.json", changed.dump());
    CHECK_THAT(foreign.refusal(), Contains("config.json: " + std::string(key)) && Contains(says));
  };
  refuses("topk_method", "group_limited_greedy", "two best experts");
  refuses("topk_method", "noaux_tc", "greedy");
  refuses("norm_topk_prob", true, "ignores it");
  refuses("num_key_value_heads", 2, "each of the 4 heads");
  refuses("moe_layer_freq", 2, "only know 1");
  refuses("mlp_bias", true, "false");
  refuses("attention_bias", true, "false");
  refuses("kv_lora_rank", "9", "whole number");
}

TEST_CASE("YaRN whose numbers mean different things to different programs, by key") {
  const Foreign foreign(config_of({"Qwen3MoeForCausalLM", set_qwen3}));
  const json whole = read_json(foreign.dir / "hf/config.json");
  const json plain = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 4}};
  int imports = 0;
  const auto import_with = [&](const json& more) {
    json changed = whole;
    changed["rope_scaling"] = plain;
    changed["rope_scaling"].update(more);
    for (const auto& [key, value] : more.items())
      if (value == "absent") changed["rope_scaling"].erase(key);
    put(foreign.dir / "hf/config.json", changed.dump());
    return hf::import_model(foreign.dir / "hf", foreign.dir / fmt::format("yarn{}", imports++)).config.model;
  };
  const auto refusal = [&](const json& more) {
    INFO(more);
    const std::string error = error_of([&] { import_with(more); });
    CHECK_THAT(error, Contains("config.json: rope_scaling"));
    return error;
  };
  const ModelConfig usual = import_with(json::object());
  CHECK(usual.rope_scaling == RopeScaling::yarn);
  CHECK(usual.yarn_factor == 4);
  CHECK(usual.yarn_original_length == 4);
  CHECK(usual.yarn_beta_fast == 32);
  CHECK(usual.yarn_beta_slow == 1);
  CHECK(usual.yarn_mscale == 1);
  CHECK(usual.yarn_mscale_all_dim == 0);
  CHECK(import_with({{"mscale", 1.0}, {"mscale_all_dim", 0}}).yarn_mscale_all_dim == 0);
  CHECK(import_with({{"mscale", nullptr}, {"beta_fast", nullptr}, {"truncate", true}}).yarn_beta_fast == 32);
  CHECK(import_with({{"mscale", 0.7}, {"mscale_all_dim", 0.9}}).yarn_mscale == 0.7);
  CHECK_THAT(refusal({{"mscale", 0.7}}), Contains("mscale 0.7 and mscale_all_dim null"));
  CHECK_THAT(refusal({{"mscale", 0}, {"mscale_all_dim", 1.0}}), Contains("one is zero"));
  CHECK_THAT(refusal({{"mscale", 0}, {"mscale_all_dim", 0}}), Contains("one is zero"));
  CHECK_THAT(refusal({{"mscale_all_dim", 1.0}}), Contains("one is zero"));
  CHECK_THAT(refusal({{"attention_factor", 1.2}}), Contains("attention_factor 1.2"));
  CHECK_THAT(refusal({{"truncate", false}}), Contains("truncate"));
  CHECK_THAT(refusal({{"factor", "absent"}}), Contains("YaRN without factor"));
  CHECK_THAT(refusal({{"original_max_position_embeddings", "absent"}}), Contains("original_max_position_embeddings"));
  CHECK_THAT(refusal({{"mrope_section", {1, 1}}}), Contains("mrope_section"));
  CHECK_THAT(error_of([&] { import_with({{"factor", 0.5}}); }), Contains("config.json") && Contains("yarn_factor"));
  put(foreign.dir / "hf/config.json", [&] {
    json changed = whole;
    changed["rope_scaling"] = plain;
    changed["original_max_position_embeddings"] = 8;
    return changed.dump();
  }());
  CHECK_THAT(foreign.refusal(), Contains("config.json: original_max_position_embeddings"));
}

TEST_CASE("A model with YaRN leaves with the length that its factor makes") {
  Config config = config_of({"Qwen3MoeForCausalLM", set_qwen3});
  config.model.rope_scaling = RopeScaling::yarn;
  config.model.yarn_factor = 40;
  config.model.yarn_original_length = 8;
  const Foreign foreign(config);
  const json c = read_json(foreign.dir / "hf/config.json");
  CHECK(c["max_position_embeddings"] == 320);
  CHECK_FALSE(c["rope_scaling"].contains("mscale"));
  CHECK(c["rope_parameters"]["rope_type"] == "yarn");
  config.model.yarn_mscale = 0.5;  // and yarn_mscale_all_dim 0
  CHECK_THAT(error_of([&] { Foreign{config}; }), Contains("yarn_mscale and yarn_mscale_all_dim"));
}

TEST_CASE("A class that is asked for and does not fit, or is none") {
  const Config config = config_of({"DeepseekForCausalLM", set_deepseek});
  TemporaryDirectory dir;
  const Checkpoint checkpoint(make_checkpoint(config, dir / "run"));
  const auto refusal = [&](const std::string& name) {
    return error_of([&] { hf::export_model(checkpoint, config, dir / "out", {.class_name = name}); });
  };
  CHECK_THAT(refusal("MixtralForCausalLM"), Contains("moe.renormalize: true") && Contains("moe.shared_experts: 0"));
  CHECK_THAT(refusal("BailingMoeV2ForCausalLM"), Contains("no class that export writes") &&
                                                     Contains("DeepseekForCausalLM") &&
                                                     !Contains("writes BailingMoeV2ForCausalLM"));
  CHECK_THAT(refusal("LlamaForCausalLM"), Contains("no class that export writes"));
  CHECK_FALSE(fs::exists(dir / "out"));
}
