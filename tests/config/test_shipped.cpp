// The configurations that come with the program: they load, and the models are as large as they say.
#include <filesystem>
#include <fstream>
#include <sstream>

#include "config/model_size.h"
#include "config/schema.h"
#include "tests/catch.h"

using namespace strand;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {
const fs::path configs = fs::path(STRAND_SOURCE_DIR) / "configs";

std::string text_of(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

/// 1234567 -> "1,234,567"
std::string grouped(int64_t n) {
  const std::string digits = std::to_string(n);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}
}  // namespace

TEST_CASE("every shipped configuration loads, has no idle setting, and states its counts") {
  int found = 0;
  for (const auto& entry : fs::recursive_directory_iterator(configs)) {
    if (entry.path().extension() != ".yaml") continue;
    ++found;
    INFO(entry.path().string());
    const Config c = load_config(entry.path());
    CHECK(config_warnings(c).empty());
    const ModelSize size = model_size(c);
    const std::string text = text_of(entry.path());
    CHECK_THAT(text, Contains(grouped(size.parameters) + " parameters"));
    CHECK_THAT(text, Contains(grouped(size.active_parameters) + " active"));
    CHECK_THAT(text, Contains(grouped(static_cast<int64_t>(size.training_flops_per_token)) + " training FLOPs"));
  }
  CHECK(found >= 12);
}

TEST_CASE("the paper's sizes are met within 1 %") {
  struct Case {
    std::string name;
    double parameters, active;
    int64_t experts, top_k;
  };
  const auto c = GENERATE(Case{"small", 0.41e9, 80e6, 16, 2}, Case{"medium", 1.09e9, 100e6, 64, 4},
                          Case{"large", 7.0e9, 0.53e9, 96, 6});
  const Config vanilla = load_config(configs / ("paper_" + c.name + ".yaml"));
  CHECK(vanilla.moe.num_experts == c.experts);
  CHECK(vanilla.moe.top_k == c.top_k);
  CHECK(static_cast<double>(model_size(vanilla).parameters) == Approx(c.parameters).epsilon(0.01));
  CHECK(static_cast<double>(model_size(vanilla).active_parameters) == Approx(c.active).epsilon(0.01));

  // The deepseek-style twin differs by the shared expert and the bias alone.
  Config deepseek = load_config(configs / ("paper_" + c.name + "_deepseek.yaml"));
  CHECK(deepseek.moe.shared_experts == 1);
  CHECK(deepseek.moe.bias_rate == 0.001);
  deepseek.moe.shared_experts = 0;
  deepseek.moe.bias_rate = 0.0;
  deepseek.run.name = vanilla.run.name;
  CHECK(deepseek == vanilla);
}

// The numbers of weights of the published checkpoints, without selection biases.
TEST_CASE("the backbones are as large as the published models") {
  struct Case {
    std::string name;
    int64_t parameters;
  };
  const auto c = GENERATE(Case{"qwen3_30b_a3b", 30'532'122'624}, Case{"deepseek_moe_16b", 16'375'728'128},
                          Case{"deepseek_v2_lite", 15'706'484'224}, Case{"ling_mini_2", 16'255'643'392 - 19 * 256});
  INFO(c.name);
  CHECK(model_size(load_config(configs / "backbones" / (c.name + ".yaml"))).parameters == c.parameters);
}

TEST_CASE("model size, counted by hand on a small model with every option") {
  Config c;
  c.model = {.vocab_size = 10,
             .hidden_size = 4,
             .num_layers = 3,
             .num_heads = 2,
             .num_kv_heads = 1,
             .head_dim = 6,
             .qk_norm = QkNorm::full,
             .tied_embeddings = false,
             .dense_layers = 1,
             .dense_ffn = 5};
  c.moe = {.num_experts = 3, .top_k = 2, .expert_ffn = 7, .shared_experts = 2};
  c.data.sequence_length = 8;
  const int64_t attention = 12 * 4 + 6 * 4 + 6 * 4 + 4 * 12;  // q, k, v, o
  const int64_t expert = 7 * 4 + 7 * 4 + 4 * 7;
  const int64_t dense = 5 * 4 + 5 * 4 + 4 * 5;
  const ModelSize size = model_size(c);
  CHECK(size.parameters == 2 * 40 + 4 + 3 * (4 + 4 + 12 + 6 + attention) + dense + 2 * (3 * 4 + (3 + 2) * expert));
  CHECK(size.active_parameters == 40 + 3 * attention + dense + 2 * (3 * 4 + (2 + 2) * expert));
  // Scores and weighted values: 2 products of 2 FLOPs per multiply, half a square of S keys, 3 passes.
  CHECK(size.training_flops_per_token ==
        6.0 * static_cast<double>(size.active_parameters) + 3.0 * (2 * 2 * 12 * 8 / 2.0) * 3);
}

TEST_CASE("model size of latent attention, counted by hand") {
  Config c;
  c.model = {.vocab_size = 10, .hidden_size = 4, .num_layers = 3, .num_heads = 2};
  c.model.attention = AttentionKind::mla;
  c.model.kv_latent = 5;
  c.model.nope_head_dim = 6;
  c.model.rope_head_dim = 2;
  c.model.value_head_dim = 3;
  c.moe = {.num_experts = 3, .top_k = 2, .expert_ffn = 7};
  c.data.sequence_length = 8;
  resolve_derived(c);
  const int64_t experts = 3 * 4 + 3 * 3 * 7 * 4, active = 3 * 4 + 2 * 3 * 7 * 4;
  const int64_t keys_values = (5 + 2) * 4 + 2 * (6 + 3) * 5, output = 4 * 2 * 3;
  int64_t queries = 2 * 8 * 4, latents = 5;
  SECTION("queries from x") {}
  SECTION("queries from a latent of 9") {
    c.model.q_latent = 9;
    queries = 9 * 4 + 2 * 8 * 9;
    latents += 9;
  }
  const int64_t attention = queries + keys_values + output;
  const ModelSize size = model_size(c);
  CHECK(size.parameters == 40 + 4 + 3 * (4 + 4 + latents + attention + experts));
  CHECK(size.active_parameters == 40 + 3 * (attention + active));
  // As above, with scores of 8 and values of 3 numbers a head.
  CHECK(size.training_flops_per_token ==
        6.0 * static_cast<double>(size.active_parameters) + 3.0 * (2 * 2 * (8 + 3) * 8 / 2.0) * 3);
}

TEST_CASE("ablations differ from the quickstart in their losses and name alone") {
  const Config quickstart = load_config(configs / "quickstart.yaml");
  CHECK(quickstart.losses.lb_weight == 1e-2);
  CHECK(quickstart.losses.z_weight == 1e-3);
  CHECK(quickstart.losses.sp_weight == 2e-3);
  CHECK(quickstart.losses.cp_weight == 1e-3);
  for (const auto& entry : fs::directory_iterator(configs / "ablations")) {
    INFO(entry.path().string());
    Config c = load_config(entry.path());
    CHECK(c.run.name == "ablation_" + entry.path().stem().string());
    CHECK_FALSE(c.losses == quickstart.losses);
    c.run.name = quickstart.run.name;
    c.losses = quickstart.losses;
    CHECK(c == quickstart);
  }
}
