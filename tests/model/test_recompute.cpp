// Recomputation gives the same bits for less memory, and the plan is the truth about memory.
#include "kernels/cpu/backend.h"
#include "kernels/reference/reference_ops.h"
#include "tests/catch.h"
#include "tests/model/counting_device.h"
#include "tests/model/harness.h"

namespace strand::test {
namespace {

constexpr int64_t sequences = 3, tokens = 7;

struct Shape3 {
  const char* name;
  void (*change)(Config&);
};
const Shape3 shapes[] = {
    {"paper losses, without o",
     [](Config& c) {
       c.losses.o_weight = 0;
       c.model.qk_norm = QkNorm::head;
     }},
    {"every term, dense first layer, shared expert, bias",
     [](Config& c) {
       c.model.num_layers = 3;
       c.model.dense_layers = 1;
       c.model.dense_ffn = 16;
       c.moe.shared_experts = 1;
       c.moe.bias_rate = 1e-3;
       c.moe.score = RouterScore::sigmoid;
       c.model.tied_embeddings = false;
     }},
    {"latent attention, queries from a latent, YaRN",
     [](Config& c) {
       use_latent_attention(c, 8);
       use_yarn(c);
     }},
    {"latent attention", [](Config& c) { use_latent_attention(c, 0); }},
    {"batch coupling, sampled sp",
     [](Config& c) {
       c.losses.cp_paths = CouplingPaths::batch;
       c.losses.lb_scope = StatisticsScope::microbatch;
       c.losses.sp_token_fraction = 0.5;
       c.moe.top_k = 3;
     }},
};

struct Outcome {
  StepTerms terms;
  NamedValues gradients;
};

TEST_CASE("Recomputation changes no bit of terms and gradients") {
  const std::unique_ptr<Ops> cpu_ops = make_cpu_ops();
  Ops& ops = *cpu_ops;
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    for (const Shape3& shape : shapes) {
      DYNAMIC_SECTION((precision == Precision::fp32 ? "fp32, " : "bf16, ") << shape.name) {
        Config config = tiny_config(precision);
        shape.change(config);
        std::vector<Outcome> outcomes;
        for (const Recompute recompute : {Recompute::none, Recompute::experts, Recompute::block}) {
          config.train.recompute = recompute;
          TestModel model(ops, config, sequences, tokens);
          model.randomize(6);
          const StepData data = cut(random_batch(config, 2 * sequences, tokens, 6), {sequences, sequences});
          Outcome o;
          o.terms = model.accumulate(data, whole_objective(config));
          o.gradients = model.gradients();
          outcomes.push_back(std::move(o));
        }
        for (size_t i : {size_t{1}, size_t{2}}) {
          CHECK(outcomes[i].terms.value == outcomes[0].terms.value);
          CHECK(outcomes[i].gradients == outcomes[0].gradients);
        }
      }
    }
  }
}

TEST_CASE("Each kind of recomputation takes less memory than the one before") {
  for (const Shape3& shape : shapes) {
    INFO(shape.name);
    Config config = tiny_config(Precision::bf16);
    shape.change(config);
    config.model.num_layers = 6;  // so that what a layer keeps outweighs what one layer in progress takes
    const auto step_bytes = [&](Recompute recompute) {
      config.train.recompute = recompute;
      return plan_training(config, {Purpose::training, 4, 64}, {.row_alignment = 4}).step.bytes;
    };
    const size_t none = step_bytes(Recompute::none), experts = step_bytes(Recompute::experts),
                 block = step_bytes(Recompute::block);
    CHECK(experts < none);
    CHECK(block < experts);
  }
}

TEST_CASE("A plan's records fill its memory") {
  Config config = tiny_config(Precision::fp32);
  const SessionPlan plan = plan_training(config, {Purpose::training, 4, 64}, {});
  for (const SessionPlan::ArenaPlan* arena : {&plan.model, &plan.step, &plan.scratch}) {
    size_t top = 0;
    for (const Arena::Record& r : arena->records) {
      CHECK(r.offset == top);
      top += r.bytes;
    }
    CHECK(top == arena->bytes);
  }
  CHECK(plan_session(config, {Purpose::inference, 4, 64}, {}).bytes() < plan.bytes());
}

TEST_CASE("A session allocates what was planned, once, and a step waits for nothing") {
  CpuDevice cpu;
  ReferenceDevice reference;
  for (const bool on_cpu : {true, false}) {
    for (const Recompute recompute : {Recompute::none, Recompute::experts, Recompute::block}) {
      Config config = tiny_config(on_cpu ? Precision::bf16 : Precision::fp64);
      config.train.recompute = recompute;
      CountingDevice device(on_cpu ? static_cast<Device&>(cpu) : reference);
      const std::unique_ptr<Ops> ops = device.make_ops();
      const SessionPlan plan = plan_training(config, {Purpose::training, sequences, tokens}, device.traits());
      TestModel model(*ops, config, sequences, tokens);
      std::vector<size_t> planned{plan.model.bytes, plan.step.bytes, plan.scratch.bytes};
      if (on_cpu) planned.push_back(plan.workspace);  // the reference has none
      CHECK(device.requests.allocations == planned);
      model.randomize(1);
      const StepData data = cut(random_batch(config, 2 * sequences, tokens, 1), {sequences, sequences});
      device.requests = {};
      for (int64_t step = 0; step < 2; ++step) {
        model.runner.step(data, whole_objective(config), step, {.optimizer = config.optimizer, .learning_rate = 1e-3});
        // The host gives numbers, sends inputs and targets of two micro-steps, and asks for terms, numbers and counts.
        // It waits for nothing.
        CHECK(device.requests.enqueued == 8 * (step + 1));
        CHECK(model.runner.take_result().applied);
      }
      CHECK(device.requests.uploads + device.requests.downloads + device.requests.waits == 0);
      model.runner.evaluate(data, whole_objective(config));
      CHECK(device.requests.allocations.empty());
    }
  }
}

TEST_CASE("A batch larger than planned, or ids outside the vocabulary, are refused") {
  ReferenceOps ops;
  const Config config = tiny_config(Precision::fp64);
  TestModel model(ops, config, 2, 5);
  model.randomize(1);
  const auto refused = [&](const StepData& data, const std::string& words) {
    CHECK_THROWS_WITH(model.accumulate(data, whole_objective(config)), Catch::Matchers::Contains(words));
  };
  refused(random_batch(config, 3, 5, 1), "3 x 5");
  refused(random_batch(config, 2, 6, 1), "2 x 6");
  StepData data = random_batch(config, 2, 5, 1);
  data.inputs[3] = 17;
  refused(data, "token id 17 at position 3");
  data.inputs[3] = -1;
  refused(data, "token id -1");
  data.inputs[3] = 0;
  data.targets[9] = 17;
  refused(data, "target id 17 at position 9");
  data.targets.pop_back();
  refused(data, "10 inputs and 9 targets");
}

}  // namespace
}  // namespace strand::test
