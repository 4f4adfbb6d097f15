// Legal but idle settings are warned about, each by its key, and nothing else is.
#include "config/schema.h"
#include "examples.h"
#include "tests/catch.h"

using namespace strand;
using Catch::StartsWith;

TEST_CASE("idle settings are named") {
  struct Case {
    std::vector<std::string> overrides;
    std::string key;
  };
  const auto c = GENERATE(
      Case{{"moe.top_k=1", "losses.sp_weight=1"}, "losses.sp_weight"},
      Case{{"moe.top_k=1", "losses.o_weight=1"}, "losses.o_weight"},
      Case{{"moe.top_k=8", "losses.lb_weight=1"}, "losses.lb_weight"},
      Case{{"moe.top_k=8", "losses.cp_weight=1"}, "losses.cp_weight"},
      Case{{"moe.top_k=8", "moe.bias_rate=1"}, "moe.bias_rate"},
      Case{{"moe.top_k=1", "moe.num_experts=1", "losses.v_weight=1"}, "losses.v_weight"},
      Case{{"moe.top_k=1", "moe.num_experts=1", "losses.entropy_weight=-1"}, "losses.entropy_weight"},
      Case{{"model.dense_layers=3", "model.dense_ffn=8", "losses.entropy_weight=-1"}, "losses: "},
      Case{{"moe.top_k=1", "moe.renormalize=true"}, "moe.renormalize"},
      Case{{"model.num_layers=1", "losses.cp_weight=1"}, "losses.cp_weight"},
      Case{{"model.dense_layers=2", "model.dense_ffn=8", "losses.cp_weight=1"}, "losses.cp_weight"},
      Case{{"model.dense_layers=3", "model.dense_ffn=8", "losses.z_weight=1"}, "losses: "},
      Case{{"model.dense_layers=3", "model.dense_ffn=8", "parallel.expert_parallel=2"}, "parallel.expert_parallel"},
      Case{{"model.dense_ffn=8"}, "model.dense_ffn"}, Case{{"model.kv_latent=8"}, "model.attention"},
      Case{{"model.yarn_factor=8"}, "model.rope_scaling"},
      Case{{"model.attention=mla", "model.kv_latent=12", "model.nope_head_dim=8", "model.rope_head_dim=8",
            "model.value_head_dim=8", "model.rope_fraction=0.5"},
           "model.rope_fraction"},
      Case{{"losses.sp_token_fraction=0.5"}, "losses.sp_token_fraction"},
      Case{{"losses.cp_paths=batch"}, "losses.cp_paths"}, Case{{"losses.cp_sources=activated"}, "losses.cp_sources"},
      Case{{"losses.lb_scope=microbatch"}, "losses.lb_scope"}, Case{{"schedule.decay_steps=3"}, "schedule.decay_steps"},
      Case{{"train.eval_every=5"}, "train.eval_every"}, Case{{"data.val=x"}, "data.val"},
      Case{{"data.val=x", "train.eval_every=50"}, "train.eval_every"},
      Case{{"train.checkpoint_every=50"}, "train.checkpoint_every"});
  const auto warnings = config_warnings(valid_config(c.overrides));
  REQUIRE(warnings.size() == 1);
  CHECK_THAT(warnings.front(), StartsWith(c.key));
}

TEST_CASE("settings that act are not warned about") {
  CHECK(config_warnings(valid_config()).empty());
  CHECK(config_warnings(
            valid_config({"losses.sp_weight=1", "losses.cp_weight=1", "losses.o_weight=1", "losses.lb_weight=1",
                          "losses.v_weight=1", "losses.entropy_weight=-1", "moe.bias_rate=1",
                          "losses.lb_scope=microbatch", "losses.cp_paths=batch", "losses.sp_token_fraction=0.5",
                          "model.dense_layers=1", "model.dense_ffn=8", "schedule.kind=wsd", "schedule.decay_steps=3",
                          "data.val=x", "train.eval_every=5", "train.checkpoint_every=5"}))
            .empty());
  CHECK(config_warnings(
            valid_config({"model.attention=mla", "model.q_latent=9", "model.kv_latent=12", "model.nope_head_dim=8",
                          "model.rope_head_dim=8", "model.value_head_dim=8", "model.rope_scaling=yarn",
                          "model.yarn_factor=8", "model.yarn_original_length=64", "model.yarn_mscale_all_dim=0.7"}))
            .empty());
}
