// Initial weights: a pure function of (seed, name, element), with the deviations of docs/mathematics.md, section 2.
#include <cmath>

#include "config/model_size.h"
#include "kernels/cpu/backend.h"
#include "kernels/reference/reference_ops.h"
#include "kernels/staging.h"
#include "tests/catch.h"
#include "tests/model/harness.h"

namespace strand::test {
namespace {

NamedValues initial(Ops& ops, const Config& config, uint64_t seed) {
  TestModel model(ops, config, 1, 2);
  model.session.parameters().initialize(ops, seed);
  return model.weights();
}

TEST_CASE("Initial weights are the same in every precision and on every backend") {
  const std::unique_ptr<Ops> cpu_backend = make_cpu_ops();
  Ops& cpu = *cpu_backend;
  ReferenceOps reference;
  const NamedValues fp64 = initial(reference, tiny_config(Precision::fp64), 42);
  CHECK(initial(cpu, tiny_config(Precision::fp32), 42) == fp64);
  CHECK(initial(cpu, tiny_config(Precision::bf16), 42) == fp64);
  CHECK(initial(cpu, tiny_config(Precision::fp32), 43) != fp64);
}

TEST_CASE("A weight does not depend on which others exist") {
  const std::unique_ptr<Ops> cpu_backend = make_cpu_ops();
  Ops& cpu = *cpu_backend;
  Config small = tiny_config(Precision::fp32), other = small;
  other.moe.num_experts = 7;
  other.moe.shared_experts = 1;
  other.moe.bias_rate = 1e-3;
  other.model.tied_embeddings = false;
  other.model.qk_norm = QkNorm::head;
  const NamedValues a = initial(cpu, small, 42), b = initial(cpu, other, 42);
  for (const auto& [name, values] : a) {
    INFO(name);
    const Values& larger = b.at(name);
    REQUIRE(larger.size() >= values.size());  // routers have more rows: the first ones agree
    CHECK(std::equal(values.begin(), values.end(), larger.begin()));
  }
}

TEST_CASE("Each element is its deviation times the normal number of its tensor") {
  ReferenceOps ops;
  const NamedValues weights = initial(ops, tiny_config(Precision::fp64), 42);
  const std::string name = "layers.1.moe.experts.3.up_proj.weight";
  for (uint64_t i : {0u, 1u, 17u, 69u})
    CHECK(weights.at(name)[i] == static_cast<float>(0.02 * random_normal(hash_key(42, name), i)));
}

TEST_CASE("Deviations: init_std, less by sqrt(2L) for projections back into the residual stream; norms are 1") {
  const std::unique_ptr<Ops> cpu_ops = make_cpu_ops();
  Ops& ops = *cpu_ops;
  Config config = tiny_config(Precision::fp32);
  config.model.hidden_size = 64;
  config.model.head_dim = 16;
  config.model.vocab_size = 100;
  config.model.tied_embeddings = false;
  config.model.qk_norm = QkNorm::full;
  config.model.num_layers = 3;
  config.model.dense_layers = 1;
  config.model.dense_ffn = 80;
  config.model.init_std = 0.05;
  config.moe.expert_ffn = 48;
  config.moe.num_experts = 32;
  config.moe.shared_experts = 2;
  SECTION("attention of heads") {}
  SECTION("latent attention") {
    config.model.qk_norm = QkNorm::none;
    use_latent_attention(config, 50);
    config.model.kv_latent = 40;
    config.model.value_head_dim = 12;
  }
  for (const auto& [name, values] : initial(ops, config, 1)) {
    INFO(name);
    const double n = static_cast<double>(values.size());
    if (name.find("norm") != std::string::npos) {
      CHECK(values == Values(values.size(), 1.0));
      continue;
    }
    const bool back = name.find("o_proj") != std::string::npos || name.find("down_proj") != std::string::npos;
    const double expected = back ? 0.05 / std::sqrt(6.0) : 0.05;
    double sum = 0;
    for (double v : values) sum += v;
    // 5 standard errors of the mean and of the deviation of n normal numbers: σ/√n and σ/√2n.
    CHECK(std::abs(sum / n) < 5 * expected / std::sqrt(n));
    CHECK(std::abs(norm(values) / std::sqrt(n) - expected) < 5 * expected / std::sqrt(2 * n));
  }
}

TEST_CASE("The model has as many weights as the formula says") {
  ReferenceOps ops;
  struct Case {
    const char* name;
    void (*change)(Config&);
  };
  const Case cases[] = {
      {"tied", [](Config&) {}},
      {"untied, qk_norm head",
       [](Config& c) {
         c.model.tied_embeddings = false;
         c.model.qk_norm = QkNorm::head;
       }},
      {"qk_norm full, dense layer, shared experts, bias",
       [](Config& c) {
         c.model.qk_norm = QkNorm::full;
         c.model.num_layers = 3;
         c.model.dense_layers = 1;
         c.model.dense_ffn = 9;
         c.moe.shared_experts = 2;
         c.moe.bias_rate = 1e-3;
       }},
      {"latent attention", [](Config& c) { use_latent_attention(c, 0); }},
      {"latent attention, queries from a latent", [](Config& c) { use_latent_attention(c, 9); }},
  };
  for (const Case& c : cases) {
    INFO(c.name);
    Config config = tiny_config(Precision::fp64);
    c.change(config);
    TestModel model(ops, config, 1, 2);
    const int64_t formula = model_size(config).parameters;
    CHECK(model.session.parameters().elements() == formula);
    CHECK(plan_training(config, {Purpose::training, 1, 2}, {}).parameters == formula);
    int64_t logical = 0;
    for (const std::string& name : model.names()) logical += model.shape_of(name).elements();
    CHECK(logical == formula);
  }
  // By hand, for the tied case: V D + D + 2 (2 D + (H + 2G) A D + H A D + E D + 3 D F E).
  CHECK(model_size(tiny_config(Precision::fp64)).parameters ==
        17 * 10 + 10 + 2 * (20 + 8 * 6 * 10 + 24 * 10 + 50 + 3 * 10 * 7 * 5));
}

TEST_CASE("The slices of a stored weight tile it") {
  ReferenceOps ops;
  Config config = tiny_config(Precision::fp64);
  config.moe.shared_experts = 1;
  TestModel model(ops, config, 1, 2);
  for (const Parameter& p : model.session.parameters().all()) {
    INFO(p.name);
    std::vector<int> covered(static_cast<size_t>(p.shape.elements()));
    for (const LogicalTensor& part : p.logical)
      for (int64_t i = 0; i < part.shape.elements(); ++i) ++covered.at(static_cast<size_t>(part.offset + i));
    CHECK(covered == std::vector<int>(covered.size(), 1));
  }
}

}  // namespace
}  // namespace strand::test
