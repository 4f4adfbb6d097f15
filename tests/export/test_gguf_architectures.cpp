// What a model becomes as a GGUF file: which architecture, which models become none, and every key of it. What is in
// whole files is held against the Python package gguf and against llama.cpp by scripts/gguf_parity.py.
#include <cstdint>
#include <cstring>
#include <map>
#include <string>

#include "export/gguf_architectures.h"
#include "export/gguf_export.h"
#include "models.h"

using namespace strand;
using namespace strand::test;

namespace {
std::string architecture_for(void (*set)(Config&)) {
  Config c = small_config();
  set(c);
  return gguf::architecture_for(c).name;
}
std::string refusal(void (*set)(Config&)) {
  return error_of([&] { architecture_for(set); });
}
}  // namespace

namespace {
void set_yarn(Config& c) {
  c.model.rope_scaling = RopeScaling::yarn;
  c.model.yarn_factor = 4;
  c.model.yarn_original_length = 4;
}
/// DeepSeek-V2-Lite, as llama.cpp recognizes it.
void set_lite(Config& c) {
  set_deepseek_v2(c);
  c.model.num_layers = 27;
  c.model.norm_eps = 1e-6;
  c.model.yarn_beta_fast = 32;
  c.model.yarn_beta_slow = 1;
  c.model.yarn_mscale = c.model.yarn_mscale_all_dim = 0.7;
}
void set_lite_layers_with_unequal_mscales(Config& c) {
  set_lite(c);
  c.model.yarn_mscale = 1;
  c.model.yarn_mscale_all_dim = 0;
}
}  // namespace

TEST_CASE("A family's own architecture is taken where llama.cpp computes the model with it") {
  CHECK(architecture_for(set_mixtral) == "llama");
  CHECK(architecture_for([](Config& c) { c.model.qk_norm = QkNorm::head, c.moe.renormalize = true; }) == "qwen3moe");
  CHECK(architecture_for([](Config& c) { set_olmoe(c), c.model.num_kv_heads = 4; }) == "olmoe");
  CHECK(architecture_for(set_width_of_heads) == "qwen2moe");
  CHECK(architecture_for([](Config& c) { set_ernie(c), c.moe.renormalize = true; }) == "ernie4_5-moe");
  CHECK(architecture_for(set_deepseek) == "deepseek");
  CHECK(architecture_for(set_glm4) == "glm4moe");
  CHECK(architecture_for(set_lite) == "deepseek2");
  CHECK(architecture_for([](Config& c) { set_mixtral(c), set_yarn(c); }) == "llama");
}

TEST_CASE("Traits for which llama.cpp ignores the file have the architecture that reads them all") {
  CHECK(architecture_for(set_ernie) == "glm4moe");                                          // not renormalized
  CHECK(architecture_for([](Config& c) { c.model.qk_norm = QkNorm::head; }) == "glm4moe");  // not renormalized
  CHECK(architecture_for([](Config& c) { c.moe.shared_experts = 1; }) == "glm4moe");        // heads wider than D / H
  CHECK(architecture_for([](Config& c) { set_qwen3(c), c.moe.renormalize = true; }) == "glm4moe");  // a dense layer
  CHECK(architecture_for(set_qwen2) == "glm4moe");                                                  // a dense layer
  CHECK(architecture_for([](Config&) {}) == "glm4moe");  // heads wider than D / H
  CHECK(architecture_for([](Config& c) { set_mixtral(c), c.moe.routed_scale = 2; }) == "glm4moe");
  CHECK(architecture_for([](Config& c) { set_mixtral(c), c.model.head_dim = 8, c.model.rope_fraction = 0.5; }) ==
        "glm4moe");
  CHECK(architecture_for([](Config& c) { c.moe.score = RouterScore::sigmoid; }) == "glm4moe");
  CHECK(architecture_for([](Config& c) {
          set_mixtral(c);
          c.moe.num_experts = 6;
          c.moe.groups = 3;
          c.moe.groups_kept = 2;
        }) == "glm4moe");
}

TEST_CASE("Traits that no architecture has are refused by name") {
  using Catch::Contains;
  CHECK_THAT(refusal(set_olmoe), Contains("olmoe (with model.num_kv_heads = num_heads)"));  // grouped keys
  CHECK_THAT(refusal([](Config& c) { set_olmoe(c), c.model.num_kv_heads = 4, c.moe.renormalize = true; }),
             Contains("olmoe (with moe.renormalize: false)") &&
                 Contains("glm4moe (with model.qk_norm: none or head)") && !Contains("qwen2moe"));
  CHECK_THAT(refusal([](Config& c) { set_olmoe(c), c.model.num_kv_heads = 4, c.moe.shared_experts = 1; }),
             Contains("moe.shared_experts: 0"));
  CHECK_THAT(refusal([](Config& c) { c.model.qk_norm = QkNorm::full, c.model.num_kv_heads = 4; }),
             Contains("model.head_dim = hidden_size / num_heads"));
  CHECK_THAT(refusal([](Config& c) { c.model.dense_layers = 3, c.model.dense_ffn = 8; }),
             Contains("model.dense_layers below model.num_layers"));
  CHECK_THAT(refusal([](Config& c) {
               set_mixtral(c), set_yarn(c);
               c.model.yarn_beta_fast = 16;
             }),
             Contains("llama (with model.yarn_beta_fast: 32 and yarn_beta_slow: 1)"));
  CHECK_THAT(refusal([](Config& c) {
               set_mixtral(c), set_yarn(c);
               c.model.yarn_mscale_all_dim = 1;
             }),
             Contains("llama (with model.yarn_mscale: 1 and yarn_mscale_all_dim: 0)"));
  CHECK_THAT(refusal(set_lite_layers_with_unequal_mscales),
             Contains("model.yarn_mscale = yarn_mscale_all_dim, above 0"));
  CHECK_THAT(refusal([](Config& c) { set_lite(c), c.model.num_layers = 12; }),
             Contains("model.num_layers: 26 or 27 with q_latent: 0"));
  CHECK_THAT(refusal([](Config& c) { set_lite(c), c.model.q_latent = 8; }), Contains("another number without"));
  CHECK_THAT(refusal([](Config& c) { set_lite(c), c.model.norm_eps = 1e-5; }), Contains("model.norm_eps: 1e-6"));
  CHECK_THAT(refusal([](Config& c) { c.moe.num_experts = 1025; }), Contains("moe.num_experts: 1024 or fewer"));
  CHECK_THAT(refusal([](Config& c) { c.model.num_layers = 513; }), Contains("model.num_layers: 512 or fewer"));
}

namespace {
/// The numbers among keys with values, as they are in a file: the length of a key (u64), the key, the type of its value
/// (u32), and the value. Types: 4 u32, 6 f32, 7 bool, 8 string (u64 bytes and the text).
std::map<std::string, double> numbers_in(const gguf::Metadata& metadata) {
  std::map<std::string, double> numbers;
  const std::string& bytes = metadata.bytes();
  size_t at = 0;
  const auto take = [&](auto value) {
    REQUIRE(at + sizeof value <= bytes.size());
    std::memcpy(&value, bytes.data() + at, sizeof value);
    at += sizeof value;
    return value;
  };
  const auto text = [&] {
    const auto length = take(uint64_t{});
    at += length;
    return bytes.substr(at - length, length);
  };
  while (at < bytes.size()) {
    const std::string key = text();
    const auto type = take(uint32_t{});
    if (type == 4)
      numbers[key] = take(uint32_t{});
    else if (type == 6)
      numbers[key] = static_cast<double>(take(float{}));
    else if (type == 7)
      numbers[key] = take(uint8_t{});
    else
      text();
  }
  return numbers;
}

void check_keys(const Config& config, const std::string& name, std::map<std::string, double> wanted) {
  INFO(name);
  const gguf::Architecture& architecture = gguf::architecture_for(config);
  REQUIRE(architecture.name == name);
  gguf::Metadata metadata;
  gguf::add_model_keys(architecture, config, metadata);
  const std::map<std::string, double> common = {{"vocab_size", 11},          {"context_length", 16},
                                                {"embedding_length", 20},    {"block_count", 3},
                                                {"attention.head_count", 4}, {"rope.freq_base", 7000},
                                                {"expert_used_count", 3},    {"expert_feed_forward_length", 7},
                                                {"feed_forward_length", 10}, {"leading_dense_block_count", 1}};
  wanted.insert(common.begin(), common.end());
  const std::map<std::string, double> got = numbers_in(metadata);
  for (const auto& [key, value] : wanted) {
    INFO(key);
    REQUIRE(got.contains(name + "." + key));
    CHECK(got.at(name + "." + key) == Approx(value).epsilon(1e-6));  // of f32
  }
  CHECK(got.size() == wanted.size());
}
}  // namespace

// No two sizes of these models are equal that llama.cpp takes for different things.
TEST_CASE("Every size and number of a model stands under the key that llama.cpp reads it from") {
  Config glm = config_of({"Glm4MoeForCausalLM", set_glm4});
  glm.moe.num_experts = 12;
  glm.moe.groups = 4;
  glm.moe.groups_kept = 2;
  glm.model.dense_layers = 1;
  check_keys(glm, "glm4moe",
             {{"attention.head_count_kv", 2},
              {"attention.key_length", 8},
              {"attention.value_length", 8},
              {"attention.layer_norm_rms_epsilon", 3e-6},
              {"rope.dimension_count", 6},
              {"expert_count", 12},
              {"expert_shared_count", 2},
              {"expert_gating_func", 2},
              {"expert_weights_scale", 1.5},
              {"expert_weights_norm", 1},
              {"expert_group_count", 4},
              {"expert_group_used_count", 2}});
  Config latent = small_config();
  set_lite(latent);
  latent.model.num_layers = 3;
  latent.model.q_latent = 13;
  latent.model.yarn_original_length = 8;
  check_keys(latent, "deepseek2",
             {{"attention.head_count_kv", 1},
              {"attention.key_length", 15},
              {"attention.value_length", 9},
              {"attention.key_length_mla", 10},
              {"attention.value_length_mla", 5},
              {"attention.q_lora_rank", 13},
              {"attention.kv_lora_rank", 9},
              {"attention.layer_norm_rms_epsilon", 1e-6},
              {"rope.dimension_count", 6},
              {"rope.scaling.factor", 4},
              {"rope.scaling.original_context_length", 8},
              {"rope.scaling.yarn_log_multiplier", 0.07},
              {"expert_count", 5},
              {"expert_shared_count", 3},
              {"expert_gating_func", 1},
              {"expert_weights_scale", 1.5},
              {"expert_weights_norm", 0}});
  Config ernie = config_of({"Ernie4_5_MoeForCausalLM", set_ernie});
  ernie.moe.renormalize = true;
  check_keys(ernie, "ernie4_5-moe",
             {{"attention.head_count_kv", 2},
              {"attention.key_length", 6},
              {"attention.value_length", 6},
              {"attention.layer_norm_rms_epsilon", 3e-6},
              {"rope.dimension_count", 6},
              {"expert_count", 5},
              {"expert_shared_count", 3},
              {"expert_shared_feed_forward_length", 21},
              {"interleave_moe_layer_step", 1}});
}
