// One optimizer step: the norm, AdamW by hand, the balancing bias, non-finite numbers; and that a run repeats itself.
#include <omp.h>

#include <algorithm>
#include <cmath>

#include "kernels/cpu/backend.h"
#include "kernels/reference/reference_ops.h"
#include "kernels/staging.h"
#include "model/backend.h"
#include "tests/catch.h"
#include "tests/model/harness.h"
#include "train/nonfinite.h"

namespace strand::test {
namespace {

void set_gradients(TestModel& model, double value) {
  for (const Parameter& p : model.session.parameters().all())
    upload_values(model.session.ops(), p.gradient, Values(static_cast<size_t>(p.shape.elements()), value));
}

TEST_CASE("AdamW, two steps worked out by hand: decay on matrices, none on norms") {
  ReferenceOps ops;
  const Config config = tiny_config(Precision::fp64);
  TestModel model(ops, config, 1, 2);
  model.randomize(1);
  const std::vector<std::string> matrices = {"embed_tokens.weight", "layers.0.attn.k_proj.weight",
                                             "layers.1.moe.router.weight", "layers.0.moe.experts.4.down_proj.weight"};
  const std::vector<std::string> norms = {"norm.weight", "layers.1.attn_norm.weight"};
  const auto each = [&](const std::vector<std::string>& names, const auto& body) {
    for (const std::string& name : names) {
      INFO(name);
      body(name);
    }
  };
  const auto set_one = [&](const std::string& name) {
    model.set_weight(name, Values(static_cast<size_t>(model.shape_of(name).elements()), 1.0));
  };
  each(matrices, set_one);
  each(norms, set_one);
  const OptimizerConfig adam{.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.1, .clip_norm = 0};
  const auto all_equal = [&](double expected) {
    return [&model, expected](const std::string& name) {
      for (double w : model.weight(name)) REQUIRE(w == Approx(expected).epsilon(1e-9));
    };
  };
  // Step 1, gradient 2 scaled by 1/4: m̂ = 0.5, √v̂ = 0.5, so the step is lr · 0.5/(0.5 + 1e-8), and lr · 0.1 · 1 of
  // decay.
  set_gradients(model, 2.0);
  OptimizerConfig clipped = adam;
  clipped.clip_norm = model.runner.gradient_norm() / 4;
  model.runner.update({.optimizer = clipped, .learning_rate = 0.1});
  each(matrices, all_equal(0.890000002));
  each(norms, all_equal(0.900000002));
  // Step 2, gradient −0.5: m = 0.9 · 0.05 − 0.05 = −0.005, m̂ = −0.005/0.19; v̂ = 0.25 as before.
  set_gradients(model, -0.5);
  model.runner.update({.optimizer = adam, .learning_rate = 0.1});
  const double step = 0.005 / 0.19 / 0.50000001;
  each(matrices, all_equal(0.890000002 + 0.1 * step - 0.1 * 0.1 * 0.890000002));
  each(norms, all_equal(0.900000002 + 0.1 * step));
  CHECK(model.runner.updates() == 2);
}

TEST_CASE("The update ratio is that of the weights before and after, where it is asked for") {
  const std::unique_ptr<Device> cpu_device = make_device({});
  const std::unique_ptr<Ops> cpu = cpu_device->make_ops();
  ReferenceOps reference;
  for (const Precision precision : {Precision::fp64, Precision::fp32, Precision::bf16}) {
    Ops& ops = precision == Precision::fp64 ? static_cast<Ops&>(reference) : *cpu;
    const Config config = tiny_config(precision);
    TestModel model(ops, config, 2, 5);
    model.randomize(4);
    const StepData data = random_batch(config, 2, 5, 31);
    Update update{.optimizer = config.optimizer, .learning_rate = 1e-2};
    for (int64_t index = 0; index < 3; ++index) {
      update.size = index == 1 ? UpdateSize::not_measured : UpdateSize::measured;
      const NamedValues before = model.weights();
      model.runner.step(data, whole_objective(config), index, update);
      const StepResult result = model.runner.take_result();
      REQUIRE(result.update_ratio.has_value() == (index != 1));
      if (index == 1) continue;
      double moved = 0, size = 0;
      for (const auto& [name, after] : model.weights())
        for (size_t i = 0; i < after.size(); ++i) {
          moved += std::pow(before.at(name)[i] - after[i], 2);
          size += std::pow(after[i], 2);
        }
      // In fp32, differences of weights of order 1 have an error of 1e-7, at updates of order 0.01.
      CHECK(*result.update_ratio == Approx(std::sqrt(moved / size)).epsilon(1e-4));
    }
  }
}

TEST_CASE("The range of the biases is that of the layer where it is widest, after the step") {
  const std::unique_ptr<Device> cpu_device = make_device({});
  const std::unique_ptr<Ops> cpu = cpu_device->make_ops();
  Config config = tiny_config(Precision::fp32);
  config.model.num_layers = 3;
  config.moe.bias_rate = 0.01;
  for (const size_t widest : {0, 1, 2}) {
    TestModel model(*cpu, config, 2, 5);
    model.randomize(8);
    const auto& biases = model.session.parameters().router_biases();
    REQUIRE(biases.size() == 3);
    for (size_t layer = 0; layer < 3; ++layer) {
      Values values = download_values(*cpu, biases[layer].bias);
      values[layer] += layer == widest ? 20 : 5;  // far above what is random in them
      upload_values(*cpu, biases[layer].bias, values);
    }
    model.runner.step(random_batch(config, 2, 5, 21), whole_objective(config), 0,
                      {.optimizer = config.optimizer, .learning_rate = 1e-2});
    const StepResult result = model.runner.take_result();
    const Values after = download_values(*cpu, biases[widest].bias);
    const auto [least, most] = std::minmax_element(after.begin(), after.end());
    INFO("layer " << widest);
    REQUIRE(*most - *least > 10);
    CHECK(result.bias_range == *most - *least);
  }
}

TEST_CASE("The parts of a step are of the CPU's clock, and together no longer than the step") {
  const std::unique_ptr<Device> cpu_device = make_device({});
  const std::unique_ptr<Ops> cpu = cpu_device->make_ops();
  const Config config = tiny_config(Precision::fp32);
  TestModel model(*cpu, config, 2, 5);
  model.randomize(4);
  for (int64_t index = 0; index < 2; ++index) {
    model.runner.step(cut(random_batch(config, 4, 5, 31), {2, 2}), whole_objective(config), index,
                      {.optimizer = config.optimizer, .learning_rate = 1e-2});
    const StepResult result = model.runner.take_result();
    REQUIRE(result.parts.has_value());
    double sum = 0;
    for (const double seconds : *result.parts) {
      CHECK(seconds >= 0);
      sum += seconds;
    }
    for (const StepPart part : {StepPart::forward, StepPart::head, StepPart::backward, StepPart::update})
      CHECK((*result.parts)[static_cast<size_t>(part)] > 0);
    CHECK((*result.parts)[static_cast<size_t>(StepPart::exchange)] == 0);  // of one rank
    CHECK(sum <= result.seconds);
  }
}

TEST_CASE("An evaluation leaves gradients, weights, biases and the step's selection counts alone") {
  const std::unique_ptr<Device> cpu_device = make_device({});
  const std::unique_ptr<Ops> cpu = cpu_device->make_ops();
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    Config config = tiny_config(precision);
    config.moe.bias_rate = 0.01;
    TestModel model(*cpu, config, 2, 5);
    model.randomize(8);
    model.accumulate(random_batch(config, 2, 5, 21), whole_objective(config));
    const auto counts = model.runner.expert_counts();
    const NamedValues gradients = model.gradients(), weights = model.weights();
    const StepData other = random_batch(config, 2, 5, 22);
    const StepTerms first = model.runner.evaluate(other, whole_objective(config));
    const StepTerms second = model.runner.evaluate(other, whole_objective(config));
    CHECK(std::isfinite(first.loss));
    CHECK(first.value == second.value);
    CHECK(model.runner.expert_counts() == counts);
    // Each token of the evaluation selects K experts in each layer, and those of `other` alone are counted.
    double selections = 0;
    for (const auto& layer : model.runner.evaluation_counts())
      for (const double count : layer) selections += count;
    CHECK(selections == 2 * 5 * config.moe.top_k * config.model.num_layers);
    CHECK(model.gradients() == gradients);
    // The biases move by the selections of the step, which an evaluation in between does not change.
    model.runner.update({.optimizer = {}, .learning_rate = 0});
    for (const Parameters::RouterBias& b : model.session.parameters().router_biases()) {
      const std::vector<double> of_layer = counts[size_t(b.layer)];
      double total = 0;
      for (const double c : of_layer) total += c;
      TestModel fresh(*cpu, config, 2, 5);
      fresh.randomize(8);
      Values before;
      for (const Parameters::RouterBias& f : fresh.session.parameters().router_biases())
        if (f.layer == b.layer) before = download_values(*cpu, f.bias);
      const Values after = download_values(*cpu, b.bias);
      for (size_t e = 0; e < after.size(); ++e) {
        const double surplus = total - static_cast<double>(of_layer.size()) * of_layer[e];
        CHECK(after[e] == Approx(before[e] + 0.01 * ((surplus > 0) - (surplus < 0))).margin(1e-7));
      }
    }
    CHECK(model.weights() == weights);  // at a learning rate of 0
  }
}

TEST_CASE("An idle expert decays, and its moments age") {
  ReferenceOps ops;
  const Config config = tiny_config(Precision::fp64);
  TestModel model(ops, config, 1, 2);
  model.randomize(1);
  const std::string name = "layers.0.moe.experts.0.up_proj.weight";
  const OptimizerConfig adam{.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.5, .clip_norm = 0};
  const Values before = model.weight(name);
  set_gradients(model, 0.0);
  model.runner.update({.optimizer = adam, .learning_rate = 0.1});
  const Values decayed = model.weight(name);
  for (size_t i = 0; i < before.size(); ++i) CHECK(decayed[i] == Approx(0.95 * before[i]).epsilon(1e-12));
  // After one gradient of 1 and then zeros, the weight still moves by the aged moments.
  OptimizerConfig without_decay = adam;
  without_decay.weight_decay = 0;
  set_gradients(model, 1.0);
  model.runner.update({.optimizer = without_decay, .learning_rate = 0.1});
  const Values moved = model.weight(name);
  set_gradients(model, 0.0);
  model.runner.update({.optimizer = without_decay, .learning_rate = 0.1});
  // Update 3: m = 0.9 · 0.1, m̂ = 0.09/(1 − 0.9³); v = 0.99 · 0.01, v̂ = 0.0099/(1 − 0.99³).
  const double step = 0.1 * (0.09 / 0.271) / (std::sqrt(0.0099 / 0.029701) + 1e-8);
  CHECK(model.weight(name)[0] == Approx(moved[0] - step).epsilon(1e-9));
}

TEST_CASE("The gradient norm counts every weight once, a tied embedding too") {
  ReferenceOps ops;
  for (const bool tied : {true, false}) {
    Config config = tiny_config(Precision::fp64);
    config.model.tied_embeddings = tied;
    TestModel model(ops, config, 1, 2);
    model.randomize(1);
    set_gradients(model, 0.5);
    double elements = 0;
    for (const auto& [name, w] : model.weights()) elements += static_cast<double>(w.size());
    CHECK(model.runner.gradient_norm() == Approx(std::sqrt(0.25 * elements)).epsilon(1e-12));
  }
}

TEST_CASE("After the update the balancing bias moves by rate · sign(mean − count)") {
  ReferenceOps ops;
  Config config = tiny_config(Precision::fp64);
  config.moe.bias_rate = 0.01;
  TestModel model(ops, config, 2, 5);
  model.randomize(1);
  const auto& biases = model.session.parameters().router_biases();
  REQUIRE(biases.size() == 2);
  std::vector<Values> before;
  for (const auto& b : biases) before.push_back(download_values(ops, b.bias));
  const StepData data = cut(random_batch(config, 4, 5, 1), {2, 2});
  model.accumulate(data, whole_objective(config));
  const auto counts = model.runner.expert_counts();
  model.runner.update({.optimizer = config.optimizer, .learning_rate = 0});
  for (size_t l = 0; l < 2; ++l) {
    double sum = 0;
    for (double c : counts[l]) sum += c;
    CHECK(sum == 40);  // 20 tokens of both micro-steps, K = 2: 8 each in balance
    const Values after = download_values(ops, biases[l].bias);
    for (size_t e = 0; e < 5; ++e) {
      const double sign = counts[l][e] < 8 ? 1.0 : counts[l][e] > 8 ? -1.0 : 0.0;
      CHECK(after[e] - before[l][e] == Approx(0.01 * sign).margin(1e-15));
    }
  }
}

TEST_CASE("A non-finite number is traced to where it first shows") {
  ReferenceOps ops;
  const Config config = tiny_config(Precision::fp64);
  TestModel model(ops, config, 2, 5);
  model.randomize(1);
  const StepData data = random_batch(config, 2, 5, 1);
  model.accumulate(data, whole_objective(config));
  CHECK(find_nonfinite(model.session).empty());

  const std::string name = "layers.1.moe.experts.3.gate_proj.weight";
  const Values good = model.weight(name);
  Values bad = good;
  bad[5] = NAN;
  model.set_weight(name, bad);
  model.accumulate(data, whole_objective(config));
  CHECK_FALSE(std::isfinite(model.runner.gradient_norm()));
  CHECK(find_nonfinite(model.session) == "weight " + name);

  // All weights and their squares are finite, but not the square of what attention makes of two of them.
  model.set_weight(name, good);
  for (const std::string large : {"layers.0.attn.v_proj.weight", "layers.0.attn.o_proj.weight"})
    model.set_weight(large, Values(static_cast<size_t>(model.shape_of(large).elements()), 1e152));
  model.accumulate(data, whole_objective(config));
  CHECK(find_nonfinite(model.session) == "activation layers.0.x_mid");
}

// ---- determinism
// -----------------------------------------------------------------------------------------------------

NamedValues after_three_steps(Precision precision, int threads) {
  omp_set_num_threads(threads);
  const std::unique_ptr<Ops> cpu_ops = make_cpu_ops();
  Ops& ops = *cpu_ops;
  Config config = tiny_config(precision);
  config.model.hidden_size = 48;
  config.model.head_dim = 16;
  config.model.vocab_size = 101;
  config.moe.num_experts = 6;
  config.moe.top_k = 3;
  config.moe.expert_ffn = 40;
  config.moe.bias_rate = 1e-3;
  TestModel model(ops, config, 3, 33);
  model.randomize(9);
  for (int64_t i = 0; i < 3; ++i) {
    const StepData data = cut(random_batch(config, 6, 33, static_cast<uint64_t>(i)), {3, 3});
    model.accumulate(data, whole_objective(config), i);
    model.runner.update({.optimizer = config.optimizer, .learning_rate = 1e-2});
  }
  return model.weights();
}

TEST_CASE("The same run on as many threads gives the same bits") {
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    for (const int threads : {1, 2, 3}) {
      INFO(threads << " threads");
      const NamedValues one = after_three_steps(precision, threads), other = after_three_steps(precision, threads);
      CHECK(one == other);
    }
  }
}

}  // namespace
}  // namespace strand::test
