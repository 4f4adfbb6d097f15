// What is collected of a forward pass, against the same numbers computed here from the weights and the routers' inputs,
// or taken from the objective's terms.
#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "analysis/collector.h"
#include "kernels/cpu/backend.h"
#include "kernels/reference/reference_ops.h"
#include "router_inputs.h"
#include "tests/catch.h"

namespace strand::test {
namespace {

struct Pass {
  Collected collected;
  std::vector<Values> inputs;
  StepTerms terms;
};

Pass run_pass(TestModel& model, const StepData& data, int64_t clustered = 0) {
  Session& session = model.session;
  RoutingCollector collector(session, data.sequences() * data.tokens, clustered);
  Recorder recorder(session.ops(), collector);
  const Objective objective{.losses = session.config().losses};
  session.transformer().begin_evaluation();
  model.runner.for_each_micro_step(data, {}, [&](const MicroStep& micro) {
    session.transformer().evaluate(micro, objective, {}, &recorder);
    collector.end_micro_step();
  });
  const StepTerms terms = model.runner.read_terms(objective);
  return {collector.take(), recorder.inputs, terms};
}

/// z and y of an expert.
struct Activations {
  Values z, y;
};
Activations activations(TestModel& model, int64_t layer, int64_t expert, const Values& x) {
  const std::string name = "layers." + std::to_string(layer) + ".moe.experts." + std::to_string(expert) + ".";
  const Values gate = times(model.weight(name + "gate_proj.weight"), x);
  const Values up = times(model.weight(name + "up_proj.weight"), x);
  Values z;
  for (size_t i = 0; i < gate.size(); ++i) z.push_back(gate[i] / (1 + std::exp(-gate[i])) * up[i]);
  return {z, times(model.weight(name + "down_proj.weight"), z)};
}

TEST_CASE("The trace is what routers choose from their inputs, best first; guesses are what the next one would") {
  ReferenceOps ops;
  const Config config = config_number(GENERATE(0, 1));
  TestModel model(ops, config, 2, 6);
  model.randomize(3);
  const StepData data = cut(random_batch(config, 5, 6, 1), {2, 2, 1});
  const Pass pass = run_pass(model, data);
  REQUIRE(pass.inputs.size() == 2);
  const int64_t tokens = 30, k = config.moe.top_k, d = config.model.hidden_size;
  REQUIRE(pass.collected.experts.size() == size_t(tokens * 2 * k));
  REQUIRE(pass.collected.guessed.size() == size_t(tokens * 1 * k));
  int64_t right = 0;
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t layer = 0; layer < 2; ++layer) {
      const auto want = order_of_choice(model, layer + 1, row(pass.inputs[size_t(layer)], t, d));
      for (int64_t i = 0; i < k; ++i) CHECK(pass.collected.experts[size_t((t * 2 + layer) * k + i)] == want[size_t(i)]);
    }
    const auto guess = order_of_choice(model, 2, row(pass.inputs[0], t, d));
    const auto got = pass.collected.guesses(0, config.moe.num_experts, k)[t];
    for (int64_t i = 0; i < k; ++i) {
      CHECK(got[size_t(i)] == guess[size_t(i)]);
      right += got[size_t(i)] == pass.collected.experts[size_t((t * 2 + 1) * k + i)];
    }
  }
  CHECK(right < tokens * k);  // a guess is not the choice itself
}

TEST_CASE("Predicted ids are the most likely ones") {
  ReferenceOps ops;
  const Config config = config_number(0);
  TestModel model(ops, config, 2, 6);
  model.randomize(3);
  const StepData data = cut(random_batch(config, 3, 6, 1), {2, 1});
  const Pass pass = run_pass(model, data);
  Values values;
  model.runner.evaluate_with_logits(data, {.losses = config.losses}, [&](const Tensor& logits) {
    const Values more = download_values(ops, logits);
    values.insert(values.end(), more.begin(), more.end());
  });
  REQUIRE(values.size() == size_t(18 * config.model.vocab_size));
  for (int64_t t = 0; t < 18; ++t) {
    const Values of = row(values, t, config.model.vocab_size);
    CHECK(pass.collected.predicted[size_t(t)] == std::max_element(of.begin(), of.end()) - of.begin());
  }
}

TEST_CASE("Overlap is that of the activations of a token's experts, and its mean is the term sp") {
  ReferenceOps ops;
  const Config config = config_number(0);
  TestModel model(ops, config, 3, 7);
  model.randomize(5);
  const Pass pass = run_pass(model, cut(random_batch(config, 3, 7, 2), {1, 1, 1}));
  const int64_t d = config.model.hidden_size;
  double sp = 0;
  for (int64_t layer = 0; layer < 2; ++layer) {
    double z = 0, y = 0, absolute = 0;
    for (int64_t t = 0; t < 21; ++t) {
      const uint16_t* experts = pass.collected.experts.data() + (t * 2 + layer) * 2;
      const Values x = row(pass.inputs[size_t(layer)], t, d);
      const Activations one = activations(model, layer + 1, experts[0], x);
      const Activations other = activations(model, layer + 1, experts[1], x);
      z += std::pow(cosine(one.z, other.z), 2) / 21;
      y += std::pow(cosine(one.y, other.y), 2) / 21;
      absolute += std::abs(cosine(one.y, other.y)) / 21;
    }
    const CollectedLayer& got = pass.collected.layers[size_t(layer)];
    CHECK(got.z->mean_squared_cosine == Approx(z));
    CHECK(got.y->mean_squared_cosine == Approx(y));
    CHECK(got.y->mean_absolute_cosine == Approx(absolute));
    sp += got.z->mean_squared_cosine * 2;  // K(K − 1)
  }
  CHECK(sp == Approx(pass.terms[Term::sp]));
}

TEST_CASE("Sharpness and geometry, from the routers' inputs") {
  ReferenceOps ops;
  const Config config = config_number(GENERATE(0, 1));
  TestModel model(ops, config, 3, 7);
  model.randomize(5);
  const Pass pass = run_pass(model, cut(random_batch(config, 3, 7, 2), {1, 1, 1}));
  const int64_t d = config.model.hidden_size;
  const auto experts = static_cast<double>(config.moe.num_experts);
  double entropy = 0;
  for (int64_t layer = 0; layer < 2; ++layer) {
    const Values router = model.weight("layers." + std::to_string(layer + 1) + ".moe.router.weight");
    double chosen = 0, any = 0, lse = 0;
    for (int64_t t = 0; t < 21; ++t) {
      const Values x = row(pass.inputs[size_t(layer)], t, d);
      double sum = 0, best = -2;
      for (int64_t e = 0; e < config.moe.num_experts; ++e) {
        const Values r = row(router, e, d);
        const uint16_t* used = pass.collected.experts.data() + (t * 2 + layer) * 2;
        any += cosine(x, r) / experts / 21;
        if (used[0] == e || used[1] == e) best = std::max(best, cosine(x, r));
        sum += std::exp(dot(x, r));
      }
      chosen += best / 21;
      lse += std::log(sum) / 21;
    }
    const CollectedLayer& got = pass.collected.layers[size_t(layer)];
    CHECK(got.choice.chosen == Approx(chosen));
    CHECK(got.choice.any == Approx(any));
    CHECK(got.sharpness.logsumexp == Approx(lse));
    entropy += got.sharpness.token_entropy * std::log(experts);
  }
  CHECK(entropy == Approx(pass.terms[Term::entropy]));
  REQUIRE(pass.collected.input_cosines.size() == 1);
  double same = 0, other = 0;
  for (int64_t t = 0; t < 21; ++t) {
    const int64_t next = t / 7 * 7 + (t + 1) % 7;  // in a ring of the tokens of a micro-step
    same += cosine(row(pass.inputs[0], t, d), row(pass.inputs[1], t, d)) / 21;
    other += cosine(row(pass.inputs[0], t, d), row(pass.inputs[1], next, d)) / 21;
  }
  CHECK(pass.collected.input_cosines[0].same_token == Approx(same));
  CHECK(pass.collected.input_cosines[0].other_token == Approx(other));
}

TEST_CASE("Weights of experts are compared as whole vectors") {
  ReferenceOps ops;
  const Config config = config_number(GENERATE(0, 1));
  TestModel model(ops, config, 3, 7);
  model.randomize(5);
  const Pass pass = run_pass(model, random_batch(config, 3, 7, 2));
  const int64_t experts = config.moe.num_experts;
  for (int64_t layer = 0; layer < 2; ++layer) {
    std::vector<Values> vectors(static_cast<size_t>(experts));
    for (int64_t e = 0; e < experts; ++e) {
      const std::string expert = "layers." + std::to_string(layer + 1) + ".moe.experts." + std::to_string(e);
      for (const char* part : {".gate_proj.weight", ".up_proj.weight", ".down_proj.weight"})
        for (const double value : model.weight(expert + part)) vectors[size_t(e)].push_back(value);
    }
    const WeightCosines& got = pass.collected.layers[size_t(layer)].weights;
    double sum = 0, absolute = 0, largest = 0;
    for (int64_t e = 0; e < experts; ++e) {
      for (int64_t v = 0; v < experts; ++v) {
        const double c = cosine(vectors[size_t(e)], vectors[size_t(v)]);
        CHECK(got.pairs[size_t(e * experts + v)] == Approx(c).margin(1e-12));
        if (e == v) continue;
        sum += c;
        absolute += std::abs(c);
        largest = std::max(largest, std::abs(c));
      }
    }
    const auto pairs = static_cast<double>(experts * (experts - 1));
    CHECK(got.mean == Approx(sum / pairs).margin(1e-12));
    CHECK(got.mean_absolute == Approx(absolute / pairs));
    CHECK(got.max_absolute == Approx(largest));
  }
}

TEST_CASE("Weights that do not fit into one part: equal experts, opposite ones, one of zeros, one that turns round") {
  ReferenceOps ops;
  // There are more numbers than lie on the host at a time, so the parts of rows have to add up. The last expert is the
  // first one up to a place in the first part, and its opposite from there on: no part stands for another.
  const int64_t experts = 5, rows = 700, columns = 1024, turn = 300 * columns;
  const size_t bytes = size_t(experts * rows * columns) * sizeof(float);
  const DeviceMemory first(ops.device(), MemoryKind::device, 2 * bytes),
      second(ops.device(), MemoryKind::device, bytes);
  const Tensor gate_up = first.tensor(DType::f32, {experts, 2 * rows, columns}),
               down = second.tensor(DType::f32, {experts, columns, rows});
  double alike = 0, all = 0;  // sums of squares of the first expert
  for (const Tensor& weights : {gate_up, down}) {
    Values values(static_cast<size_t>(weights.elements()));
    const size_t one = values.size() / size_t(experts);
    for (size_t i = 0; i < one; ++i) {
      const bool same = weights.data == gate_up.data && i < size_t(turn);
      values[i] = static_cast<double>(i % 7) - 2;
      values[one + i] = 2 * values[i];
      values[2 * one + i] = -values[i];
      values[4 * one + i] = same ? values[i] : -values[i];
      alike += same ? values[i] * values[i] : 0;
      all += values[i] * values[i];
    }
    upload_values(ops, weights, values);
  }
  const double turned = (2 * alike - all) / all;
  REQUIRE(turned < -0.5);
  const WeightCosines got = weight_cosines(ops, gate_up, down);
  const auto pair = [&](int64_t e, int64_t v) { return got.pairs[size_t(e * experts + v)]; };
  CHECK(pair(0, 1) == Approx(1));
  CHECK(pair(2, 1) == Approx(-1));
  CHECK(pair(0, 0) == Approx(1));
  CHECK(pair(3, 3) == 0);
  CHECK(pair(3, 0) == 0);
  CHECK(pair(4, 0) == Approx(turned));
  CHECK(pair(4, 2) == Approx(-turned));
  CHECK(got.mean == Approx((turned - 1) / 10));
  CHECK(got.mean_absolute == Approx((3 - 3 * turned) / 10));
  CHECK(got.max_absolute == Approx(1));
}

TEST_CASE("Tokens to cluster are spread evenly, with the routers' inputs") {
  ReferenceOps ops;
  const Config config = config_number(0);
  TestModel model(ops, config, 2, 6);
  model.randomize(3);
  Pass pass = run_pass(model, cut(random_batch(config, 4, 6, 1), {2, 2}), 8);
  // Of 24 tokens every third: the last of each three.
  CHECK(pass.collected.clustered == std::vector<int64_t>{2, 5, 8, 11, 14, 17, 20, 23});
  const Points& inputs = pass.collected.layers[1].inputs;
  REQUIRE(inputs.count() == 8);
  for (int64_t i = 0; i < 8; ++i)
    for (int64_t j = 0; j < inputs.width; ++j)
      CHECK(inputs[i][j] == static_cast<float>(pass.inputs[1][size_t((3 * i + 2) * inputs.width + j)]));
  CHECK(pass.collected.input_length == InputLength::as_it_is);
  pass.collected.scale_inputs_to_unit_length();
  CHECK(pass.collected.input_length == InputLength::unit);
  for (const CollectedLayer& layer : pass.collected.layers)
    for (int64_t i = 0; i < 8; ++i)
      CHECK(std::inner_product(layer.inputs[i], layer.inputs[i] + layer.inputs.width, layer.inputs[i], 0.0) ==
            Approx(1));
}

TEST_CASE("A pass that is looked at has the terms of one that is not, on the CPU too") {
  const auto check = [](Ops& ops, Precision precision) {
    const Config config = with_dense_layer(tiny_config(precision));
    TestModel model(ops, config, 3, 7);
    model.randomize(5);
    const StepData data = random_batch(config, 3, 7, 2);
    const StepTerms plain = model.runner.evaluate(data, {.losses = config.losses});
    CHECK(run_pass(model, data).terms.value == plain.value);
    return run_pass(model, data).collected;
  };
  ReferenceOps reference;
  CpuDevice cpu;
  const std::unique_ptr<Ops> cpu_ops = cpu.make_ops();
  const Collected want = check(reference, Precision::fp64), got = check(*cpu_ops, Precision::fp32);
  CHECK(got.experts == want.experts);
  CHECK(got.predicted == want.predicted);
  CHECK(got.guessed == want.guessed);
  // fp32 sums of at most 10 products: relative 1e-6 each, and the values are means.
  CHECK(got.layers[1].y->mean_squared_cosine == Approx(want.layers[1].y->mean_squared_cosine).epsilon(1e-4));
  CHECK(got.layers[0].sharpness.information == Approx(want.layers[0].sharpness.information).epsilon(1e-4));
}

TEST_CASE("One active expert has no overlap, and a single layer no pair") {
  ReferenceOps ops;
  Config config = tiny_config(Precision::fp64);
  config.moe.top_k = 1;
  config.model.num_layers = 1;
  TestModel model(ops, config, 2, 5);
  model.randomize(1);
  const Pass pass = run_pass(model, random_batch(config, 2, 5, 1));
  CHECK_FALSE(pass.collected.layers[0].z.has_value());
  CHECK(pass.collected.input_cosines.empty());
  CHECK(pass.collected.guessed.empty());
}

TEST_CASE("A model without experts, and other tokens than announced, are refused") {
  ReferenceOps ops;
  Config dense = tiny_config(Precision::fp64);
  dense.model.dense_layers = 2;
  dense.model.dense_ffn = 8;
  TestModel without(ops, dense, 1, 5);
  CHECK_THROWS_WITH(RoutingCollector(without.session, 5, 0), Catch::Contains("no layer with experts"));
  const Config config = tiny_config(Precision::fp64);
  TestModel model(ops, config, 1, 5);
  RoutingCollector collector(model.session, 10, 0);
  CHECK_THROWS_WITH(collector.take(), Catch::Contains("10 tokens were announced, and 0 came"));
}

}  // namespace
}  // namespace strand::test
