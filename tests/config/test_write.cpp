// The resolved configuration reloads to an equal one; the help table and the writer know every key.
#include <cmath>
#include <set>
#include <sstream>

#include "config/schema.h"
#include "examples.h"
#include "tests/catch.h"

using namespace strand;
using Catch::Contains;

namespace {

/// Every member differs from its default, so that a member the table forgets is lost on the way.
Config nothing_default() {
  Config c;
  c.run = {"run: \"x\" # y", "/tmp/a b\\c\n", 0x7fffffffffffffff, DeviceKind::reference, Precision::fp64, 3};
  // But for the kind of attention, as latent attention has no qk_norm: the test below has it.
  c.model = {.vocab_size = 1000,
             .hidden_size = 96,
             .num_layers = 5,
             .num_heads = 6,
             .num_kv_heads = 3,
             .head_dim = 20,
             .q_latent = 11,
             .kv_latent = 12,
             .nope_head_dim = 13,
             .rope_head_dim = 14,
             .value_head_dim = 15,
             .qk_norm = QkNorm::full,
             .rope_theta = 12345.678,
             .rope_fraction = 0.5,
             .rope_scaling = RopeScaling::yarn,
             .yarn_factor = 40.5,
             .yarn_original_length = 4096,
             .yarn_beta_fast = 31.5,
             .yarn_beta_slow = 1.5,
             .yarn_mscale = 0.707,
             .yarn_mscale_all_dim = 0.9,
             .norm_eps = std::nextafter(1e-6, 1.0),
             .tied_embeddings = false,
             .dense_layers = 2,
             .dense_ffn = 48,
             .init_std = 0.1 + 0.2};
  c.moe = {12, 3, 40, 4, 2, 2, RouterScore::sigmoid, true, 2.5, 1e-3};
  c.losses = {1.0 / 3.0,
              StatisticsScope::microbatch,
              5e-324,
              2e-3,
              0.7,
              1e-3,
              CouplingPaths::batch,
              CouplingSources::activated,
              1e300,
              0.5};
  c.data = {{{"a, b", 2.5, "llmc"}, {"yes", 1.0, "raw_u16"}}, {{"-[v]: {w}", 1.0, "auto"}}, "null", "~: [x]", 77};
  c.optimizer = {1e-3, 1e-4, 0.8, 0.95, 1e-9, 0.05, 0.0};
  c.schedule = {ScheduleKind::wsd, 7, 11};
  c.train = {100, 24, 6, 10, 4, 20, 5, 40, false, 3, Recompute::block, OnNonfinite::skip};
  c.parallel = {4};
  c.cuda = {GroupedGemmChoice::cublas, false};
  return c;
}

// The keys that users were promised.
const std::set<std::string> promised = {"run.name",
                                        "run.dir",
                                        "run.seed",
                                        "run.device",
                                        "run.precision",
                                        "run.threads",
                                        "run.report",
                                        "model.vocab_size",
                                        "model.hidden_size",
                                        "model.num_layers",
                                        "model.num_heads",
                                        "model.num_kv_heads",
                                        "model.head_dim",
                                        "model.attention",
                                        "model.q_latent",
                                        "model.kv_latent",
                                        "model.nope_head_dim",
                                        "model.rope_head_dim",
                                        "model.value_head_dim",
                                        "model.qk_norm",
                                        "model.rope_theta",
                                        "model.rope_fraction",
                                        "model.rope_scaling",
                                        "model.yarn_factor",
                                        "model.yarn_original_length",
                                        "model.yarn_beta_fast",
                                        "model.yarn_beta_slow",
                                        "model.yarn_mscale",
                                        "model.yarn_mscale_all_dim",
                                        "model.norm_eps",
                                        "model.tied_embeddings",
                                        "model.dense_layers",
                                        "model.dense_ffn",
                                        "model.init_std",
                                        "moe.num_experts",
                                        "moe.top_k",
                                        "moe.groups",
                                        "moe.groups_kept",
                                        "moe.expert_ffn",
                                        "moe.shared_experts",
                                        "moe.score",
                                        "moe.renormalize",
                                        "moe.routed_scale",
                                        "moe.bias_rate",
                                        "losses.lb_weight",
                                        "losses.entropy_weight",
                                        "losses.lb_scope",
                                        "losses.z_weight",
                                        "losses.sp_weight",
                                        "losses.sp_token_fraction",
                                        "losses.cp_weight",
                                        "losses.cp_paths",
                                        "losses.cp_sources",
                                        "losses.o_weight",
                                        "losses.v_weight",
                                        "data.train",
                                        "data.val",
                                        "data.tokenizer",
                                        "data.chat_template",
                                        "data.sequence_length",
                                        "optimizer.lr",
                                        "optimizer.min_lr",
                                        "optimizer.beta1",
                                        "optimizer.beta2",
                                        "optimizer.eps",
                                        "optimizer.weight_decay",
                                        "optimizer.clip_norm",
                                        "schedule.kind",
                                        "schedule.warmup_steps",
                                        "schedule.decay_steps",
                                        "train.steps",
                                        "train.global_batch_size",
                                        "train.micro_batch_size",
                                        "train.eval_every",
                                        "train.eval_batches",
                                        "train.checkpoint_every",
                                        "train.keep",
                                        "train.keep_every",
                                        "train.background_checkpoints",
                                        "train.log_every",
                                        "train.recompute",
                                        "train.on_nonfinite",
                                        "train.max_skips_in_a_row",
                                        "parallel.expert_parallel",
                                        "parallel.overlap",
                                        "parallel.exchange_chunks",
                                        "parallel.gradient_type",
                                        "parallel.bucket_mib",
                                        "parallel.watchdog_seconds",
                                        "parallel.deterministic",
                                        "cuda.grouped_gemm",
                                        "cuda.graph"};

}  // namespace

TEST_CASE("the resolved configuration reloads to an equal one, bit for bit") {
  const Config c = nothing_default();
  REQUIRE_NOTHROW(check_config(c));
  const std::string yaml = to_yaml(c);
  INFO(yaml);
  const Config again = parse_config(yaml, "again.yaml");
  CHECK(again.run == c.run);
  CHECK(again.model == c.model);
  CHECK(again.moe == c.moe);
  CHECK(again.losses == c.losses);
  CHECK(again.data == c.data);
  CHECK(again.optimizer == c.optimizer);
  CHECK(again.schedule == c.schedule);
  CHECK(again.train == c.train);
  CHECK(again.parallel == c.parallel);
  CHECK(to_yaml(again) == yaml);
  CHECK(parse_config(to_yaml(valid_config()), "again.yaml") == valid_config());
  const Config latent = valid_config({"model.attention=mla", "model.kv_latent=12", "model.nope_head_dim=8",
                                      "model.rope_head_dim=6", "model.value_head_dim=10"});
  CHECK(parse_config(to_yaml(latent), "again.yaml") == latent);
}

TEST_CASE("floats carry a point, so that other YAML readers see numbers") {
  const std::string yaml = to_yaml(valid_config());
  CHECK_THAT(yaml, Contains("eps: 1.0e-08\n"));
  CHECK_THAT(yaml, Contains("rope_theta: 10000.0\n"));
}

TEST_CASE("the help table has each key once, with type, default, range and meaning") {
  std::istringstream help(config_help());
  std::string line;
  std::getline(help, line);
  std::set<std::string> listed;
  while (std::getline(help, line)) {
    if (line.empty()) continue;
    const std::string key = line.substr(0, line.find(' '));
    CHECK(listed.insert(key).second);
    CHECK(line.size() > 80);  // no empty meaning
  }
  CHECK(listed == promised);
  CHECK_THAT(config_help(), Catch::Matches("[^]*\\nmodel\\.hidden_size +integer +required [^]*"));
  CHECK_THAT(config_help(), Contains("none | experts | block"));
}

TEST_CASE("defaults in the help table are those of the struct") {
  std::istringstream help(config_help());
  std::string line;
  while (std::getline(help, line)) {
    if (line.rfind("optimizer.beta2", 0) == 0) CHECK_THAT(line, Contains("0.999"));
    if (line.rfind("train.keep ", 0) == 0) CHECK_THAT(line, Contains(" 2 "));
  }
}
