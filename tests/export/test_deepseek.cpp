// DeepSeek-MoE, whose class lies in code beside its checkpoints, and DeepSeek-V2-Lite. Names and shapes are written out
// here from that code; the values are those of a model under strand's own names.
#include "foreign.h"

using namespace strand;
using namespace strand::test;
using Catch::Contains;
using nlohmann::json;

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
  const auto refuses = [&](const char* key, const json& value, const std::string& why) {
    check_refused(foreign, whole, key, value, why);
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
  const auto refuses = [&](const char* key, const json& value, const std::string& why) {
    check_refused(foreign, whole, key, value, why);
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
