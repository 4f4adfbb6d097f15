// Loss terms whose value is known without computing it: the factorisation of CP, balance, identical and orthogonal
// experts.
#include <algorithm>
#include "tests/catch.h"
#include <cmath>
#include <numeric>

#include "kernels/reference/reference_ops.h"
#include "kernels/staging.h"
#include "tests/model/harness.h"

namespace strand::test {
namespace {

// ---- CP
// -------------------------------------------------------------------------------------------------------------

/// Indices of the k largest of n values, ties to the lower index.
std::vector<size_t> largest(const double* values, size_t n, size_t k) {
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return values[a] > values[b] || (values[a] == values[b] && a < b); });
  order.resize(k);
  return order;
}

struct LayerRouting {
  Values probs;     ///< [T, E]
  Values selected;  ///< [T, K]
};

/// A forward pass of the whole batch as one micro-step; what each MoE layer routed.
std::vector<LayerRouting> route(TestModel& model, const StepData& data) {
  model.runner.evaluate(data, whole_objective(model.session.config()));
  std::vector<LayerRouting> layers;
  for (int64_t l = 0; l < model.session.transformer().moe_layers(); ++l)
    layers.push_back({model.probabilities(l), model.selected(l)});
  return layers;
}

struct CouplingCase {
  const Config& config;
  const std::vector<LayerRouting>& layers;
  size_t e() const { return static_cast<size_t>(config.moe.num_experts); }
  size_t k() const { return static_cast<size_t>(config.moe.top_k); }
  size_t t() const { return layers[0].probs.size() / e(); }
  bool is_source(size_t layer, size_t token, size_t expert) const {
    if (config.losses.cp_sources == CouplingSources::all) return true;
    const auto first = layers[layer].selected.begin() + static_cast<std::ptrdiff_t>(token * k());
    return std::find(first, first + static_cast<std::ptrdiff_t>(k()), static_cast<double>(expert)) !=
           first + static_cast<std::ptrdiff_t>(k());
  }
};

/// Eq. 7 of arXiv 2602.14159 as it is printed: for every source expert the K strongest paths of the token.
double printed_double_sum(const CouplingCase& c) {
  double sum = 0;
  for (size_t l = 0; l + 1 < c.layers.size(); ++l) {
    for (size_t t = 0; t < c.t(); ++t) {
      for (size_t e = 0; e < c.e(); ++e) {
        if (!c.is_source(l, t, e)) continue;
        Values paths;
        for (size_t v = 0; v < c.e(); ++v)
          paths.push_back(c.layers[l].probs[t * c.e() + e] * c.layers[l + 1].probs[t * c.e() + v]);
        for (size_t v : largest(paths.data(), c.e(), c.k())) sum += paths[v];
      }
    }
  }
  return -sum / static_cast<double>(c.t());
}

/// −(mass of the sources) · (mass of the top K above), token by token.
double product_of_masses(const CouplingCase& c) {
  double sum = 0;
  for (size_t l = 0; l + 1 < c.layers.size(); ++l) {
    for (size_t t = 0; t < c.t(); ++t) {
      double source = 0, top = 0;
      for (size_t e = 0; e < c.e(); ++e)
        if (c.is_source(l, t, e)) source += c.layers[l].probs[t * c.e() + e];
      const double* above = &c.layers[l + 1].probs[t * c.e()];
      for (size_t v : largest(above, c.e(), c.k())) top += above[v];
      sum += source * top;
    }
  }
  return -sum / static_cast<double>(c.t());
}

/// −Σ of the K largest entries of each row of the joint matrix.
double strongest_of_joint(const CouplingCase& c) {
  double sum = 0;
  for (size_t l = 0; l + 1 < c.layers.size(); ++l) {
    for (size_t e = 0; e < c.e(); ++e) {
      Values row(c.e());
      for (size_t t = 0; t < c.t(); ++t)
        for (size_t v = 0; v < c.e() && c.is_source(l, t, e); ++v)
          row[v] += c.layers[l].probs[t * c.e() + e] * c.layers[l + 1].probs[t * c.e() + v];
      for (size_t v : largest(row.data(), c.e(), c.k())) sum += row[v];
    }
  }
  return -sum / static_cast<double>(c.t());
}

TEST_CASE("CP is what Eq. 7 says, and its token form factorises into two masses") {
  ReferenceOps ops;
  for (const RouterScore score : {RouterScore::softmax, RouterScore::sigmoid}) {
    for (const CouplingSources sources : {CouplingSources::all, CouplingSources::activated}) {
      Config config = tiny_config(Precision::fp64);
      config.model.num_layers = 4;
      config.model.dense_layers = 1;
      config.model.dense_ffn = 7;
      config.moe.score = score;
      config.moe.bias_rate = 1e-3;  // the sources are the real selection, the top K above is by p alone
      config.losses.cp_sources = sources;
      TestModel token(ops, config, 3, 5);
      token.randomize(4);
      const StepData data = random_batch(config, 3, 5, 4);
      const std::vector<LayerRouting> layers = route(token, data);
      const CouplingCase c{config, layers};
      const double cp = token.runner.evaluate(data, whole_objective(config))[Term::cp];
      CHECK(cp == Approx(printed_double_sum(c)).epsilon(1e-12));
      CHECK(cp == Approx(product_of_masses(c)).epsilon(1e-12));

      config.losses.cp_paths = CouplingPaths::batch;
      TestModel batch(ops, config, 3, 5);
      batch.randomize(4);
      const double joint = batch.runner.evaluate(data, whole_objective(config))[Term::cp];
      CHECK(joint == Approx(strongest_of_joint(c)).epsilon(1e-12));
      CHECK(std::abs(joint - cp) > 1e-3);  // the two forms are different losses
    }
  }
}

TEST_CASE("The bias takes part in the selection, not in the probabilities that CP ranks") {
  ReferenceOps ops;
  Config config = tiny_config(Precision::fp64);
  config.moe.bias_rate = 1e-3;
  TestModel model(ops, config, 3, 5);
  model.randomize(4);
  const std::vector<LayerRouting> layers = route(model, random_batch(config, 3, 5, 4));
  int moved = 0;
  for (size_t l = 0; l < layers.size(); ++l) {
    const Values bias = download_values(ops, model.session.parameters().router_bias(static_cast<int64_t>(l)));
    for (size_t t = 0; t < 15; ++t) {
      const double* p = &layers[l].probs[t * 5];  // softmax: p is the score
      double sum = 0;
      Values biased;
      for (size_t e = 0; e < 5; ++e) {
        sum += p[e];
        biased.push_back(p[e] + bias[e]);
      }
      CHECK(sum == Approx(1.0).epsilon(1e-13));
      const std::vector<size_t> by_bias = largest(biased.data(), 5, 2), by_score = largest(p, 5, 2);
      for (size_t k = 0; k < 2; ++k) CHECK(layers[l].selected[t * 2 + k] == static_cast<double>(by_bias[k]));
      moved += by_bias != by_score;
    }
  }
  CHECK(moved > 0);  // else this would prove nothing
}

TEST_CASE("With all sources, the token form of CP does not see the layer below") {
  ReferenceOps ops;
  const Config config = tiny_config(Precision::fp64);
  TestModel model(ops, config, 3, 5);
  model.randomize(4);
  const StepData data = random_batch(config, 3, 5, 4);
  const StepTerms terms = model.accumulate(data, only(config, Term::cp));
  double top = 0;
  const Values upper = model.probabilities(1);
  for (size_t t = 0; t < 15; ++t)
    for (size_t v : largest(&upper[t * 5], 5, 2)) top += upper[t * 5 + v];
  CHECK(terms[Term::cp] == Approx(-top / 15).epsilon(1e-12));
}

TEST_CASE("Fewer than two MoE layers: CP is 0 without gradient") {
  ReferenceOps ops;
  for (const CouplingPaths paths : {CouplingPaths::token, CouplingPaths::batch}) {
    Config config = tiny_config(Precision::fp64);
    config.model.dense_layers = 1;
    config.model.dense_ffn = 7;
    config.losses.cp_paths = paths;
    TestModel model(ops, config, 2, 5);
    model.randomize(1);
    CHECK(model.accumulate(random_batch(config, 2, 5, 1), only(config, Term::cp))[Term::cp] == 0.0);
    for (const auto& [name, g] : model.gradients()) CHECK(norm(g) == 0.0);
  }
}

// ---- LB
// -------------------------------------------------------------------------------------------------------------

/// One layer without attention, in which token n asks for expert n mod E and the one after it.
void make_balanced(TestModel& model) {
  const Config& config = model.session.config();
  const auto zero = [&](const std::string& name) {
    model.set_weight(name, Values(static_cast<size_t>(model.shape_of(name).elements())));
  };
  zero("layers.0.attn.o_proj.weight");
  const auto experts = static_cast<size_t>(config.moe.num_experts);
  const auto d = static_cast<size_t>(config.model.hidden_size), vocab = static_cast<size_t>(config.model.vocab_size);
  Values embed(vocab * d), router(experts * d), ones(d, 1.0);
  for (size_t n = 0; n < vocab; ++n) embed[n * d + n % experts] = 1.0;
  for (size_t e = 0; e < experts; ++e) {
    router[e * d + e] = 0.9;                            // token e wants expert e most
    router[e * d + (e + experts - 1) % experts] = 0.5;  // and token e − 1 wants it next
  }
  model.set_weight("embed_tokens.weight", embed);
  model.set_weight("layers.0.ffn_norm.weight", ones);
  model.set_weight("layers.0.moe.router.weight", router);
}

TEST_CASE("Perfect balance gives LB = 1, and imbalance more") {
  ReferenceOps ops;
  for (const StatisticsScope scope : {StatisticsScope::sequence, StatisticsScope::microbatch}) {
    for (const RouterScore score : {RouterScore::softmax, RouterScore::sigmoid}) {
      Config config = tiny_config(Precision::fp64);
      config.model.num_layers = 1;
      config.moe.score = score;
      config.losses.lb_scope = scope;
      TestModel model(ops, config, 2, 10);
      model.randomize(1);
      make_balanced(model);
      StepData data = random_batch(config, 2, 10, 1);
      for (size_t i = 0; i < data.inputs.size(); ++i) data.inputs[i] = static_cast<int32_t>(i % 5);
      const StepTerms balanced = model.accumulate(data, whole_objective(config));
      CHECK(balanced[Term::lb] == Approx(1.0).epsilon(1e-13));
      for (const auto& layer : model.runner.expert_counts())
        for (double count : layer) CHECK(count == 8);  // 20 tokens, K = 2, E = 5
      const double spread = balanced[Term::v];
      CHECK(spread < -1e-3);  // the tokens' probabilities do differ

      std::fill(data.inputs.begin(), data.inputs.end(), 3);
      CHECK(model.accumulate(data, whole_objective(config))[Term::lb] > 1.1);
    }
  }
}

TEST_CASE("K = E gives LB = 1 for each layer and no gradient") {
  ReferenceOps ops;
  for (const RouterScore score : {RouterScore::softmax, RouterScore::sigmoid}) {
    Config config = tiny_config(Precision::fp64);
    config.moe.top_k = config.moe.num_experts;
    config.moe.score = score;
    TestModel model(ops, config, 2, 5);
    model.randomize(1);
    const StepTerms terms = model.accumulate(random_batch(config, 2, 5, 1), only(config, Term::lb));
    CHECK(terms[Term::lb] == Approx(2.0).epsilon(1e-13));
    // Zero up to the rounding of a cancelling sum: ∂LB/∂p is the same for every expert, and Σ_e p_e is constant.
    for (const auto& [name, g] : model.gradients()) {
      INFO(name);
      CHECK(norm(g) < 1e-14);
    }
  }
}

// ---- SP and O
// -------------------------------------------------------------------------------------------------------

std::string expert(int64_t layer, int64_t e, const char* projection) {
  return "layers." + std::to_string(layer) + ".moe.experts." + std::to_string(e) + "." + projection + ".weight";
}

TEST_CASE("Identical experts give SP = K (K - 1) in each layer, and no gradient") {
  ReferenceOps ops;
  for (const int64_t k : {2, 3, 5}) {
    Config config = tiny_config(Precision::fp64);
    config.moe.top_k = k;
    TestModel model(ops, config, 2, 5);
    model.randomize(1);
    for (int64_t layer = 0; layer < 2; ++layer)
      for (int64_t e = 1; e < config.moe.num_experts; ++e)
        for (const char* projection : {"gate_proj", "up_proj"})
          model.set_weight(expert(layer, e, projection), model.weight(expert(layer, 0, projection)));
    const StepTerms terms = model.accumulate(random_batch(config, 2, 5, 1), only(config, Term::sp));
    CHECK(terms[Term::sp] == Approx(2.0 * static_cast<double>(k * (k - 1))).epsilon(1e-12));
    for (const auto& [name, g] : model.gradients()) CHECK(norm(g) < 1e-12);  // cos² is at its maximum
  }
}

TEST_CASE("Orthogonal experts give SP = 0 without gradient; orthogonal outputs O = 0") {
  ReferenceOps ops;
  Config config = tiny_config(Precision::fp64);
  config.moe.num_experts = 3;
  config.moe.top_k = 2;
  TestModel model(ops, config, 2, 5);
  model.randomize(1);
  const auto d = static_cast<size_t>(config.model.hidden_size), f = static_cast<size_t>(config.moe.expert_ffn);
  for (int64_t layer = 0; layer < 2; ++layer) {
    for (int64_t e = 0; e < 3; ++e) {
      // Expert e speaks only through components 2e and 2e + 1 of z, and through outputs 4e to 4e + 3.
      Values up = model.weight(expert(layer, e, "up_proj")), down = model.weight(expert(layer, e, "down_proj"));
      for (size_t row = 0; row < f; ++row)
        for (size_t i = 0; i < d && row / 2 != static_cast<size_t>(e); ++i) up[row * d + i] = 0;
      for (size_t row = 0; row < d; ++row)
        for (size_t i = 0; i < f && row / 4 != static_cast<size_t>(e); ++i) down[row * f + i] = 0;
      model.set_weight(expert(layer, e, "up_proj"), up);
      model.set_weight(expert(layer, e, "down_proj"), down);
    }
  }
  const StepData data = random_batch(config, 2, 5, 1);
  const StepTerms terms = model.accumulate(data, only(config, Term::sp));
  CHECK(terms[Term::sp] == 0.0);
  CHECK(terms[Term::o] == 0.0);
  for (const auto& [name, g] : model.gradients()) CHECK(norm(g) == 0.0);
}

TEST_CASE("K = 1 has no pairs: SP = O = 0 without gradient") {
  ReferenceOps ops;
  Config config = tiny_config(Precision::fp64);
  config.moe.top_k = 1;
  TestModel model(ops, config, 2, 5);
  model.randomize(1);
  const StepData data = random_batch(config, 2, 5, 1);
  for (Term term : {Term::sp, Term::o}) {
    CHECK(model.accumulate(data, only(config, term))[term] == 0.0);
    for (const auto& [name, g] : model.gradients()) CHECK(norm(g) == 0.0);
  }
}

TEST_CASE("An expert that answers nothing counts as orthogonal") {
  ReferenceOps ops;
  Config config = tiny_config(Precision::fp64);
  config.moe.num_experts = config.moe.top_k = 2;
  TestModel model(ops, config, 2, 5);
  model.randomize(1);
  for (int64_t layer = 0; layer < 2; ++layer) {
    const std::string up = expert(layer, 1, "up_proj");
    model.set_weight(up, Values(static_cast<size_t>(model.shape_of(up).elements())));
  }
  const StepData data = random_batch(config, 2, 5, 1);
  CHECK(model.accumulate(data, only(config, Term::sp))[Term::sp] == 0.0);
  for (const auto& [name, g] : model.gradients()) CHECK(norm(g) == 0.0);
}

}  // namespace
}  // namespace strand::test
