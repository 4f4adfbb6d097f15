// Routing with masked experts: the next ones are used, weighted by the model's rule.
#include "analysis/masked_routing.h"
#include "kernels/reference/reference_ops.h"
#include "router_inputs.h"
#include "tests/catch.h"

namespace strand::test {
namespace {

TEST_CASE("Masked routing uses the next experts, weighted by the model's rule") {
  ReferenceOps ops;
  const int number = GENERATE(0, 1);
  Config config = config_number(number);
  config.moe.routed_scale = GENERATE(1.0, 1.7);
  if (number == 0) config.moe.renormalize = GENERATE(false, true);
  TestModel model(ops, config, 2, 6);
  model.randomize(3);
  const StepData data = random_batch(config, 2, 6, 1);
  const Objective objective{.losses = config.losses};
  const auto evaluate = [&](ForwardObserver* observer) {
    model.session.transformer().begin_evaluation();
    model.runner.for_each_micro_step(data, {}, [&](const MicroStep& micro) {
      model.session.transformer().evaluate(micro, objective, {}, observer);
    });
    return model.runner.read_terms(objective)[Term::ce];
  };
  const double plain = evaluate(nullptr);
  MaskedRouting none(model.session, 0);
  CHECK(evaluate(&none) == plain);
  MaskedRouting masked(model.session, 2);
  Recorder recorder(ops, masked);
  CHECK(evaluate(&recorder) != plain);
  const int64_t k = config.moe.top_k, d = config.model.hidden_size;
  for (int64_t layer = 0; layer < 2; ++layer) {
    const Routing& routing = model.session.transformer().routing(layer);
    const Values selected = download_values(ops, routing.selected), gates = download_values(ops, routing.gates);
    const Values router = model.weight("layers." + std::to_string(layer + 1) + ".moe.router.weight");
    for (int64_t t = 0; t < 12; ++t) {
      const Values x = row(recorder.inputs[size_t(layer)], t, d);
      const auto order = order_of_choice(model, layer + 1, x);
      Values s = times(router, x);
      double all = 0;
      for (double& q : s) all += (q = number == 0 ? std::exp(q) : 1 / (1 + std::exp(-q)));
      const double sum = config.moe.renormalize ? s[order[2]] + s[order[3]] : all;
      for (int64_t i = 0; i < k; ++i) {
        CHECK(selected[size_t(t * k + i)] == order[size_t(2 + i)]);
        CHECK(gates[size_t(t * k + i)] == Approx(config.moe.routed_scale * s[order[size_t(2 + i)]] / sum));
      }
    }
  }
  CHECK_THROWS_WITH(MaskedRouting(model.session, 4), Catch::Contains("4 experts of 5 are masked"));
}

TEST_CASE("With groups, what is masked and what is used instead lie in the groups that a token keeps") {
  MoeConfig moe{.num_experts = 12, .top_k = 2, .groups = 4, .groups_kept = 2};
  CHECK(most_masked(moe) == 4);
  moe.groups = moe.groups_kept = 1;
  CHECK(most_masked(moe) == 10);

  ReferenceOps ops;
  Config config = tiny_config(Precision::fp64);
  config.moe.num_experts = 6;
  config.moe.top_k = 1;
  config.moe.groups = 3;
  config.moe.groups_kept = 1;
  TestModel model(ops, config, 2, 6);
  model.randomize(3);
  const StepData data = random_batch(config, 2, 6, 1);
  const Objective objective{.losses = config.losses};
  const auto chosen = [&](int64_t masked) {
    MaskedRouting routing(model.session, masked);
    model.runner.for_each_micro_step(data, {}, [&](const MicroStep& micro) {
      model.session.transformer().evaluate(micro, objective, {}, &routing);
    });
    return model.selected(0);  // of the first layer, whose input does not depend on what is masked
  };
  const Values best = chosen(0), second = chosen(1);
  for (size_t t = 0; t < best.size(); ++t) {
    CHECK(std::floor(second[t] / 2) == std::floor(best[t] / 2));  // the other expert of the same pair
    CHECK(second[t] != best[t]);
  }
}

}  // namespace
}  // namespace strand::test
