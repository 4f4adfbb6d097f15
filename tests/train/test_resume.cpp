// A run that was killed and continued is, to the last bit of every file, the run that was not.
#include <signal.h>

#include "tests/catch.h"
#include <cmath>
#include <nlohmann/json.hpp>

#include "driven_run.h"

namespace strand::test {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;
using nlohmann::json;

/// 40 steps; 12 windows of data, so that an epoch ends within three steps of four sequences.
Config forty_steps() {
  Config c = smallest_config();
  c.model = {.vocab_size = 24, .hidden_size = 14, .num_layers = 2, .num_heads = 4, .num_kv_heads = 2, .head_dim = 6};
  c.moe = {.num_experts = 5, .top_k = 3, .expert_ffn = 9};
  c.losses.lb_weight = 1e-2;
  c.schedule = {.kind = ScheduleKind::cosine, .warmup_steps = 5};
  c.train.steps = 40;
  c.train.global_batch_size = c.train.micro_batch_size = 4;
  c.train.checkpoint_every = 17;
  return c;
}

struct Variant {
  const char* name;
  void (*apply)(Config&);
};

void accumulate(Config& c) {
  c.train.micro_batch_size = 1;
}
void balance(Config& c) {
  c.moe.bias_rate = 1e-2;
}
void sample_sp(Config& c) {
  c.losses.sp_weight = 2e-3;
  c.losses.sp_token_fraction = 0.5;
}
void validate(Config& c) {
  c.data.val = c.data.train;
  c.train.eval_every = 4;
  c.train.eval_batches = 2;
}

const std::vector<Variant> variants = {
    {"one micro-step", [](Config&) {}},
    {"accumulation", accumulate},
    {"aux-free bias", balance},
    {"sp on a sample of the tokens", sample_sp},
    {"validation in between", validate},
    {"two sources", [](Config& c) { c.data.train = {{"tokens.bin", 3.0, "raw_u16"}, {"tokens.bin", 1.0, "raw_u16"}}; }},
    {"two threads, written while training waits",
     [](Config& c) {
       c.run.threads = 2;
       c.train.background_checkpoints = false;
     }},
    {"everything",
     [](Config& c) {
       accumulate(c);
       balance(c);
       sample_sp(c);
       validate(c);
       c.moe.score = RouterScore::sigmoid;
       c.moe.renormalize = true;
       c.moe.shared_experts = 1;
       c.model.qk_norm = QkNorm::head;
       c.losses.z_weight = c.losses.cp_weight = c.losses.o_weight = c.losses.v_weight = 1e-3;
       c.train.recompute = Recompute::block;
     }},
};

void check_each_step_once(const Remains& remains, int64_t first, int64_t last) {
  REQUIRE(remains.rows.size() == static_cast<size_t>(last - first + 1));
  for (const std::string& row : remains.rows) CHECK(json::parse(row)["step"] == first++);
}

TEST_CASE("Killed after step 17 and continued to 40: the same weights, moments, biases and log") {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    for (const Variant& variant : variants) {
      INFO(variant.name << (precision == Precision::bf16 ? ", bf16" : ", fp32"));
      Config config = forty_steps();
      config.run.precision = precision;
      variant.apply(config);
      const bool validated = config.train.eval_every > 0;  // then a row 0 comes first
      const Remains expected = undisturbed(config);
      check_each_step_once(expected, validated ? 0 : 1, 40);
      REQUIRE(expected.checkpoints.contains("step_00000040/optimizer.safetensors"));
      DrivenRun run(config);
      REQUIRE(run.train(validated ? "row:26" : "row:25").status == 128 + SIGKILL);
      const Ended ended = run.train();
      REQUIRE(ended.status == 0);
      // A kill so early may come before the background writer is done; then the whole run is the test.
      if (!config.train.background_checkpoints) CHECK_THAT(ended.errors, Contains("at step 17"));
      CHECK(run.remains() == expected);
    }
  }
}

TEST_CASE("A run that does not train differs: what the comparison above compares is not constant") {
  Config config = forty_steps();
  const Remains one = undisturbed(config);
  config.run.seed = 2;
  const Remains other = undisturbed(config);
  CHECK(one.rows != other.rows);
  CHECK(one.checkpoints.at("step_00000040/model.safetensors") !=
        other.checkpoints.at("step_00000040/model.safetensors"));
}

TEST_CASE("Killed again and again, and past the window of the running statistics, the log stays the same") {
  Config config = smallest_config();  // the z-scores look back 128 steps
  config.train.steps = 180;
  config.train.checkpoint_every = 30;
  config.train.log_every = 7;
  config.train.background_checkpoints = false;
  const Remains expected = undisturbed(config);
  CHECK(json::parse(expected.rows[170])["loss_z"] != 0.0);
  DrivenRun run(config);
  for (int round = 0; round < 4; ++round) REQUIRE(run.train("row:40").status == 128 + SIGKILL);
  const Ended ended = run.train();
  CHECK_THAT(ended.errors, Contains("at step 120"));
  check_each_step_once(run.remains(), 1, 180);
  CHECK(run.remains() == expected);
}

TEST_CASE("SIGTERM and SIGINT save the step they meet and exit with 0") {
  const std::string signal = GENERATE("term", "int");
  const Config config = forty_steps();
  DrivenRun run(config);
  const Ended ended = run.train(signal + ":9");
  INFO(ended.errors);
  CHECK(ended.status == 0);
  CHECK(run.steps() == std::vector<int64_t>{9});
  check_each_step_once(run.remains(), 1, 9);
  run.complete();
  const Remains expected = undisturbed(config), found = run.remains();
  CHECK(found.rows == expected.rows);
  for (const char* file : {"model.safetensors", "optimizer.safetensors", "state.json"}) {
    const std::string name = std::string("step_00000040/") + file;
    CHECK(found.checkpoints.at(name) == expected.checkpoints.at(name));
  }
}

TEST_CASE("A second signal ends the run at once, and the run continues from its last checkpoint") {
  Config config = forty_steps();
  config.train.background_checkpoints = false;
  DrivenRun run(config);
  CHECK(run.train("terms:25").status == 128 + SIGTERM);
  CHECK(run.steps() == std::vector<int64_t>{17});
  run.complete();
  CHECK(run.remains() == undisturbed(config));
}

TEST_CASE("With another batch size the samples go on where they stopped") {
  // At a learning rate that leaves no trace in fp32, a step's loss says which samples it saw.
  Config config = smallest_config();
  config.optimizer.lr = config.optimizer.min_lr = 1e-30;
  config.optimizer.weight_decay = 0;
  config.moe.bias_rate = 0;
  config.train.steps = 10;
  DrivenRun run(config);
  run.complete();  // 20 samples
  run.config().train.steps = 14;
  run.config().train.global_batch_size = run.config().train.micro_batch_size = 4;
  run.complete();
  config.train.steps = 9;
  config.train.global_batch_size = config.train.micro_batch_size = 4;
  const Remains straight = undisturbed(config), switched = run.remains();
  for (size_t i = 0; i < 4; ++i) {
    const json found = json::parse(switched.rows[10 + i]), expected = json::parse(straight.rows[5 + i]);
    CHECK(found["loss"] == expected["loss"]);
    CHECK(found["tokens"] == expected["tokens"]);
  }
  CHECK(json::parse(straight.rows[5])["loss"] != json::parse(straight.rows[6])["loss"]);
}

// ---- retention ----------------------------------------------------------------------------------------------------

TEST_CASE("The newest checkpoints stay, and those at multiples") {
  Config config = smallest_config();
  config.train.steps = 41;
  config.train.checkpoint_every = 5;
  config.train.keep = 2;
  config.train.keep_every = 15;
  config.train.background_checkpoints = GENERATE(false, true);
  DrivenRun run(config);
  run.complete();
  CHECK(run.steps() == std::vector<int64_t>{15, 30, 40, 41});
}

TEST_CASE("No checkpoint goes before a newer one was found whole on the disk") {
  Config config = smallest_config();
  config.train.checkpoint_every = 1;
  config.train.keep = 1;
  config.train.background_checkpoints = false;
  {
    DrivenRun run(config);
    REQUIRE(run.train("spoil:3").status == 0);  // the last of four
    CHECK(run.steps() == std::vector<int64_t>{3, 4});
    CHECK_THAT(run.train().errors,
               Contains("passing over") && Contains("continuing from runs/tiny/checkpoints/step_00000003"));
  }
  DrivenRun run(config);
  REQUIRE(run.train("spoil:1").status == 0);
  CHECK(run.steps() == std::vector<int64_t>{2, 4});  // 1 went with 3; the damaged 2 stays for a person to look at
}

}  // namespace
}  // namespace strand::test
