// Which class a model becomes, and which models become none.
#include <filesystem>

#include "export/family.h"
#include "export/hf_export.h"
#include "models.h"

using namespace strand;
using namespace strand::test;

namespace {
std::string class_for(void (*set)(Config&)) {
  Config c = small_config();
  set(c);
  return hf::family_for(c).class_name;
}
std::string refusal(void (*set)(Config&)) {
  return error_of([&] { class_for(set); });
}
}  // namespace

TEST_CASE("The class follows from the options") {
  for (const ClassCase& c : class_cases) {
    INFO(c.name);
    CHECK(class_for(c.set) == c.name);
  }
}

TEST_CASE("Options beside the main road have their class too") {
  CHECK(class_for([](Config& c) { c.model.qk_norm = QkNorm::head, c.moe.renormalize = true; }) ==
        "Qwen3MoeForCausalLM");
  CHECK(class_for([](Config& c) { set_width_of_heads(c), set_dense(c), c.moe.renormalize = true; }) ==
        "Qwen2MoeForCausalLM");
  CHECK(class_for([](Config& c) { c.moe.shared_experts = 1; }) == "Ernie4_5_MoeForCausalLM");
  CHECK(class_for([](Config& c) { c.moe.bias_rate = 0.1; }) == "Ernie4_5_MoeForCausalLM");
  CHECK(class_for([](Config& c) { c.moe.renormalize = false; }) ==
        "Ernie4_5_MoeForCausalLM");  // heads wider than D / H
  CHECK(class_for([](Config& c) { c.moe.score = RouterScore::sigmoid; }) == "Glm4MoeForCausalLM");
  CHECK(class_for([](Config& c) {
          c.moe.score = RouterScore::sigmoid, c.moe.num_experts = 8, c.moe.groups = 4, c.moe.groups_kept = 2;
        }) == "Glm4MoeForCausalLM");
}

TEST_CASE("Options that no class can express are refused by name, with the nearest classes") {
  using Catch::Contains;
  CHECK_THAT(refusal([](Config& c) { c.moe.renormalize = true, c.moe.routed_scale = 2.0; }),
             Contains("MixtralForCausalLM (with moe.routed_scale: 1.0)") &&
                 Contains("Glm4MoeForCausalLM (with moe.score: sigmoid)") && !Contains("OlmoeForCausalLM"));
  CHECK_THAT(
      refusal([](Config& c) { set_width_of_heads(c), c.model.qk_norm = QkNorm::full, c.moe.shared_experts = 1; }),
      Contains("OlmoeForCausalLM") && Contains("moe.shared_experts: 0"));
  CHECK_THAT(refusal([](Config& c) { c.model.qk_norm = QkNorm::head, c.moe.bias_rate = 0.1; }),
             Contains("Qwen3MoeForCausalLM") && Contains("moe.bias_rate: 0.0"));
  CHECK_THAT(refusal([](Config& c) { c.moe.renormalize = true, c.model.rope_fraction = 0.5; }),
             Contains("model.rope_fraction: 1.0"));
  CHECK_THAT(refusal([](Config& c) { c.moe.score = RouterScore::sigmoid, c.model.qk_norm = QkNorm::full; }),
             Contains("Glm4MoeForCausalLM") && Contains("model.qk_norm: none or head"));
  CHECK_THAT(refusal([](Config& c) { c.moe.num_experts = 8, c.moe.groups = 4, c.moe.groups_kept = 2; }),
             Contains("moe.groups: 1") && Contains("Glm4MoeForCausalLM"));
  CHECK_THAT(refusal([](Config& c) { set_deepseek_v2(c), c.moe.score = RouterScore::sigmoid; }),
             Contains("DeepseekV2ForCausalLM (with moe.score: softmax)"));
  CHECK_THAT(refusal([](Config& c) { set_deepseek_v2(c), c.moe.bias_rate = 0.1; }),
             Contains("DeepseekV2ForCausalLM (with moe.bias_rate: 0.0)"));
  CHECK_THAT(refusal([](Config& c) { c.model.dense_layers = 3, c.model.dense_ffn = 8; }),
             Contains("model.dense_layers below model.num_layers"));
  CHECK_THAT(
      refusal([](Config& c) { c.model.qk_norm = QkNorm::full; }),
      Contains("OlmoeForCausalLM (with model.head_dim") && Contains("Qwen3MoeForCausalLM (with model.qk_norm: head)"));
}

TEST_CASE("Classes are known by their name only") {
  CHECK(hf::family_of_class("OlmoeForCausalLM", "x").model_type == "olmoe");
  CHECK_THAT(
      error_of([] { hf::family_of_class("LlamaForCausalLM", "config.json"); }),
      Catch::Contains("config.json") && Catch::Contains("LlamaForCausalLM") && Catch::Contains("Glm4MoeForCausalLM"));
}

TEST_CASE("A class that is asked for and does not fit, or is none") {
  const Config config = config_of({"DeepseekForCausalLM", set_deepseek});
  TemporaryDirectory dir;
  const Checkpoint checkpoint(make_checkpoint(config, dir / "run"));
  const auto refusal = [&](const std::string& name) {
    return error_of([&] { hf::export_model(checkpoint, config, dir / "out", {.class_name = name}); });
  };
  CHECK_THAT(refusal("MixtralForCausalLM"),
             Catch::Contains("moe.renormalize: true") && Catch::Contains("moe.shared_experts: 0"));
  CHECK_THAT(refusal("BailingMoeV2ForCausalLM"), Catch::Contains("no class that export writes") &&
                                                     Catch::Contains("DeepseekForCausalLM") &&
                                                     !Catch::Contains("writes BailingMoeV2ForCausalLM"));
  CHECK_THAT(refusal("LlamaForCausalLM"), Catch::Contains("no class that export writes"));
  CHECK_FALSE(std::filesystem::exists(dir / "out"));
}
