// Impossible combinations are refused, from YAML with their lines and from configurations made by hand without.
#include <limits>

#include "config/schema.h"
#include "core/error.h"
#include "examples.h"
#include "tests/catch.h"

using namespace strand;
using Catch::Contains;
using Catch::StartsWith;

TEST_CASE("a combination that cannot be names its keys and their places") {
  CHECK(parse_error(valid_yaml, {"moe.top_k=9"}) ==
        "--set moe.top_k=9: moe.top_k: 9 is more than moe.num_experts = 8 [moe.num_experts at test.yaml:7]");
  CHECK(parse_error(valid_yaml, {"moe.num_experts=1"}) ==
        "test.yaml:8: moe.top_k: 2 is more than moe.num_experts = 1 [moe.num_experts at --set moe.num_experts=1]");
}

namespace {
/// Latent attention with one key changed.
std::vector<std::string> latent_with(const std::string& change) {
  return {"model.attention=mla",   "model.kv_latent=12",      "model.nope_head_dim=10",
          "model.rope_head_dim=8", "model.value_head_dim=14", change};
}
}  // namespace

TEST_CASE("impossible combinations are refused") {
  struct Case {
    std::vector<std::string> overrides;
    std::string key;
  };
  const auto c = GENERATE(
      Case{{"model.num_kv_heads=3"}, ": model.num_kv_heads: "},
      Case{{"model.num_kv_heads=8"}, ": model.num_kv_heads: "},
      Case{{"model.num_heads=7"}, ": model.hidden_size: 64 is not divisible by model.num_heads = 7"},
      Case{{"model.head_dim=15"}, ": model.rope_fraction: "},
      Case{{"model.rope_fraction=0.3"}, ": model.rope_fraction: "},
      Case{{"model.rope_fraction=0.0625"}, ": model.rope_fraction: "},  // one dimension of 16: odd
      Case{{"model.attention=mla"}, ": model.kv_latent: must be set when model.attention is mla"},
      Case{latent_with("model.kv_latent=0"), ": model.kv_latent: must be set"},
      Case{latent_with("model.nope_head_dim=0"), ": model.nope_head_dim: must be set"},
      Case{latent_with("model.rope_head_dim=0"), ": model.rope_head_dim: must be set"},
      Case{latent_with("model.value_head_dim=0"), ": model.value_head_dim: must be set"},
      Case{latent_with("model.rope_head_dim=7"), ": model.rope_head_dim: 7 is odd"},
      Case{latent_with("model.qk_norm=head"), ": model.qk_norm: latent attention has norms of its latents"},
      Case{latent_with("model.num_kv_heads=2"), ": model.num_kv_heads: with latent attention every head"},
      Case{latent_with("model.head_dim=16"), ": model.head_dim: 16 is not nope_head_dim + rope_head_dim = 18"},
      Case{{"model.rope_scaling=yarn"}, ": model.yarn_original_length: must be set"},
      Case{{"model.yarn_factor=0.5"}, ": model.yarn_factor: 0.5 is out of range"},
      Case{{"model.rope_scaling=yarn", "model.yarn_original_length=64", "model.rope_theta=1"},
           ": model.rope_theta: yarn has no frequencies"},
      // d(1) of 16 dimensions is 2.01 and d(32) would be below 0; the other way round, 3 is above 0.
      Case{{"model.rope_scaling=yarn", "model.yarn_original_length=64", "model.yarn_beta_fast=1",
            "model.yarn_beta_slow=32"},
           ": model.yarn_beta_fast: yarn would divide the frequencies from index 0 on and leave those up to 2"},
      Case{{"parallel.expert_parallel=3"}, ": parallel.expert_parallel: 3 does not divide moe.num_experts = 8"},
      Case{{"moe.groups=3"}, ": moe.groups: 3 does not divide moe.num_experts = 8"},
      Case{{"moe.groups=8"}, ": moe.groups: 8 does not divide moe.num_experts = 8 into groups of two or more"},
      Case{{"moe.groups_kept=2"}, ": moe.groups_kept: 2 of moe.groups = 1"},
      Case{{"moe.groups=4", "moe.groups_kept=4"}, ": moe.groups_kept: 4 must be below moe.groups = 4"},
      Case{{"moe.groups=4", "moe.groups_kept=1", "moe.top_k=3"},
           ": moe.groups_kept: 1 groups of 2 experts have fewer than moe.top_k = 3"},
      Case{{"model.dense_layers=4", "model.dense_ffn=8"}, ": model.dense_layers: 4 is more than model.num_layers = 3"},
      Case{{"model.dense_layers=1"}, ": model.dense_ffn: "},
      Case{{"train.micro_batch_size=3"}, ": train.global_batch_size: 8 is not a multiple of"},
      Case{{"schedule.warmup_steps=10"}, ": train.steps: 10 steps leave none"},
      Case{{"schedule.warmup_steps=11"}, ": train.steps: "}, Case{{"train.steps=1"}, ": train.steps: "},
      Case{{"optimizer.min_lr=1"}, ": optimizer.min_lr: "}, Case{{"schedule.kind=wsd"}, ": schedule.decay_steps: "},
      Case{{"schedule.kind=wsd", "schedule.decay_steps=10"}, ": schedule.decay_steps: "},
      Case{{"run.precision=fp64"}, ": run.precision: "}, Case{{"run.device=reference"}, ": run.precision: "},
      Case{{"run.device=reference", "run.precision=bf16"}, ": run.precision: "},
      Case{{"run.device=cuda", "run.precision=fp64"}, ": run.precision: "},
      Case{{"model.vocab_size=0"}, ": model.vocab_size: no vocabulary"},
      Case{{"model.vocab_size=1"}, ": model.vocab_size: "}, Case{{"run.name=a/b"}, ": run.name: "},
      Case{{"run.name=.."}, ": run.name: "}, Case{{"run.name=''"}, ": run.name: "}, Case{{"run.dir=''"}, ": run.dir: "},
      Case{{"model.num_layers=4096", "model.head_dim=16", "moe.num_experts=65536", "model.hidden_size=1048576",
            "moe.expert_ffn=1048576"},
           ": model.hidden_size: these sizes make"},
      Case{{"train.steps=1000000000", "train.global_batch_size=1048576", "data.sequence_length=16777216"},
           ": train.steps: the run would see"});
  CHECK_THAT(parse_error(valid_yaml, c.overrides), Contains(c.key));
}

TEST_CASE("neighbours of the impossible are accepted") {
  const auto overrides = GENERATE(
      std::vector<std::string>{"moe.top_k=8"},
      std::vector<std::string>{"moe.groups=4", "moe.groups_kept=3", "moe.top_k=6"},
      std::vector<std::string>{"model.num_kv_heads=1"},
      std::vector<std::string>{"model.rope_fraction=0.125"},                     // 2 of 16 dimensions
      std::vector<std::string>{"model.rope_fraction=0.1", "model.head_dim=80"},  // 8, with a rounding error in 0.1
      std::vector<std::string>{"model.num_heads=7", "model.head_dim=8"}, latent_with("model.head_dim=18"),
      latent_with("model.num_heads=7"), latent_with("model.q_latent=9"),
      std::vector<std::string>{"model.rope_scaling=yarn", "model.yarn_original_length=64", "model.yarn_factor=1"},
      std::vector<std::string>{"model.dense_layers=3", "model.dense_ffn=8"},
      std::vector<std::string>{"parallel.expert_parallel=8"}, std::vector<std::string>{"schedule.warmup_steps=9"},
      std::vector<std::string>{"train.steps=2"}, std::vector<std::string>{"optimizer.min_lr=0"},
      std::vector<std::string>{"optimizer.min_lr=1", "schedule.kind=constant"},  // constant never reads min_lr
      std::vector<std::string>{"schedule.kind=wsd", "schedule.decay_steps=9"},
      std::vector<std::string>{"schedule.kind=wsd", "schedule.decay_steps=6", "schedule.warmup_steps=4"},
      std::vector<std::string>{"run.device=reference", "run.precision=fp64"});
  CHECK(parse_error(valid_yaml, overrides).empty());
}

TEST_CASE("configs made by hand pass the same checks, without lines") {
  const Config good = valid_config();
  CHECK_NOTHROW(check_config(good));
  Config c = good;
  c.moe.top_k = 9;
  CHECK_THROWS_WITH(check_config(c), "moe.top_k: 9 is more than moe.num_experts = 8");
  c = good;
  c.losses.sp_weight = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH(check_config(c), StartsWith("losses.sp_weight: ") && Contains("finite"));
  c = good;
  c.moe.score = static_cast<RouterScore>(7);
  CHECK_THROWS_WITH(check_config(c), StartsWith("moe.score: "));
  c = good;
  c.data.train = {{"", 1.0, "auto"}};
  CHECK_THROWS_WITH(check_config(c), StartsWith("data.train: "));
  c = good;
  c.model.head_dim = 0;
  CHECK_THROWS_WITH(check_config(c), StartsWith("model.head_dim: "));
  resolve_derived(c);
  CHECK(c == good);
  const Config latent = valid_config(latent_with("model.q_latent=9"));
  CHECK(latent.model.head_dim == 18);
  CHECK(latent.model.rotary_dim() == 8);
  CHECK(latent.model.value_dim() == 14);
  CHECK(latent.model.num_kv_heads == latent.model.num_heads);
}

TEST_CASE("a model without a training run passes check_model_config only") {
  Config c = valid_config();
  c.train = TrainConfig{};
  c.data = DataConfig{};
  CHECK_NOTHROW(check_model_config(c));
  CHECK_THROWS_AS(check_config(c), Error);
  c.moe.top_k = 9;
  CHECK_THROWS_AS(check_model_config(c), Error);
}
