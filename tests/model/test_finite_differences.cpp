// Every term's gradient against central differences of the scalar itself, in double precision, through the whole model.
#include <fmt/core.h>

#include <cmath>

#include "kernels/reference/reference_ops.h"
#include "tests/catch.h"
#include "tests/model/harness.h"

namespace strand::test {
namespace {

// The fourth-order difference (8 (f₁ − f₋₁) − (f₂ − f₋₂)) / 12h leaves h⁴ f⁽⁵⁾/30 and the rounding of f, about
// |f| 2⁻⁵²/h: with h = 2e-4 and f of order 10 that is near 1e-15 f⁽⁵⁾ and 1e-11. Hence the tolerance: 1e-6 of the size
// that a derivative in a random direction has, ‖g‖/√n, and an absolute part for gradients that are exactly zero.
constexpr double h = 2e-4;
constexpr double relative_tolerance = 1e-6;
constexpr double absolute_tolerance = 2e-10;

struct Case {
  const char* name;
  uint64_t seed;  ///< chosen so that no choice of expert is so near a tie that a perturbation would change it
  void (*change)(Config&);
  std::vector<int64_t> micro_batches = {2};
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"softmax", 1, [](Config&) {}},
      {"softmax, renormalized, scaled", 1,
       [](Config& c) {
         c.moe.renormalize = true;
         c.moe.routed_scale = 1.7;
       }},
      {"sigmoid", 1, [](Config& c) { c.moe.score = RouterScore::sigmoid; }},
      {"sigmoid, renormalized, bias, shared expert", 1,
       [](Config& c) {
         c.moe.score = RouterScore::sigmoid;
         c.moe.renormalize = true;
         c.moe.bias_rate = 1e-3;
         c.moe.shared_experts = 2;
         c.losses.cp_sources = CouplingSources::activated;
       }},
      {"two groups of four, one kept; sigmoid, bias", 1,
       [](Config& c) {
         c.moe.num_experts = 8;
         c.moe.groups = 2;
         c.moe.groups_kept = 1;
         c.moe.top_k = 3;
         c.moe.score = RouterScore::sigmoid;
         c.moe.bias_rate = 1e-3;
         c.losses.cp_sources = CouplingSources::activated;
       }},
      {"three groups of two, two kept", 1,
       [](Config& c) {
         c.moe.num_experts = 6;
         c.moe.groups = 3;
         c.moe.groups_kept = 2;
       }},
      {"bias, activated sources, K = 3", 1,
       [](Config& c) {
         c.moe.top_k = 3;
         c.moe.bias_rate = 1e-3;
         c.losses.cp_sources = CouplingSources::activated;
       }},
      {"untied, qk_norm head, every head its own", 1,
       [](Config& c) {
         c.model.tied_embeddings = false;
         c.model.qk_norm = QkNorm::head;
         c.model.num_kv_heads = 4;
       }},
      {"qk_norm full, partly rotated, dense first layer", 1,
       [](Config& c) {
         c.model.num_layers = 3;
         c.model.qk_norm = QkNorm::full;
         c.model.rope_fraction = 2.0 / 3;
         c.model.dense_layers = 1;
         c.model.dense_ffn = 7;
       }},
      {"one key/value head, nothing rotated, three layers", 1,
       [](Config& c) {
         c.model.num_layers = 3;
         c.model.num_kv_heads = 1;
         c.model.rope_fraction = 0.0;
       }},
      {"latent attention", 1, [](Config& c) { use_latent_attention(c, 0); }},
      {"latent attention, queries from a latent, YaRN", 1,
       [](Config& c) {
         use_latent_attention(c, 8);
         use_yarn(c);
       }},
      {"YaRN, partly rotated", 1,
       [](Config& c) {
         c.model.head_dim = 8;
         c.model.rope_fraction = 0.75;
         use_yarn(c);
       }},
      {"cp batch, all sources", 1, [](Config& c) { c.losses.cp_paths = CouplingPaths::batch; }},
      {"cp batch, activated sources, two micro-steps, three layers",
       1,
       [](Config& c) {
         c.model.num_layers = 3;
         c.moe.bias_rate = 1e-3;
         c.losses.cp_paths = CouplingPaths::batch;
         c.losses.cp_sources = CouplingSources::activated;
       },
       {1, 1}},
      {"microbatch scope, two micro-steps, sigmoid",
       1,
       [](Config& c) {
         c.moe.score = RouterScore::sigmoid;
         c.losses.lb_scope = StatisticsScope::microbatch;
       },
       {1, 1}},
      {"microbatch scope, softmax", 1, [](Config& c) { c.losses.lb_scope = StatisticsScope::microbatch; }},
      {"sampled sp, two micro-steps",
       1,
       [](Config& c) {
         c.moe.top_k = 3;
         c.losses.sp_token_fraction = 0.5;
       },
       {1, 1}},
      {"K = 1", 1, [](Config& c) { c.moe.top_k = 1; }},
      {"K = E", 1, [](Config& c) { c.moe.num_experts = c.moe.top_k = 3; }},
  };
  return all;
}

/// Whether the term has no gradient by its definition.
bool constant(const Config& c, Term term) {
  const bool all_selected = c.moe.top_k == c.moe.num_experts;
  switch (term) {
    case Term::lb:
      return all_selected;  // the sum of all P
    case Term::cp:
      return all_selected;  // the sum of all products
    case Term::sp:
    case Term::o:
      return c.moe.top_k == 1;  // no pairs
    default:
      return false;
  }
}

/// One objective: its value along a line, its gradient, and the worst disagreement so far.
struct Tracked {
  std::string name;
  Objective objective;
  bool constant = false;
  NamedValues gradient;
  double worst = 0;  ///< error over what is allowed
  std::string where;
};

std::vector<Tracked> tracked_objectives(const Config& config) {
  std::vector<Tracked> all;
  for (int i = 0; i < term_count; ++i)
    all.push_back({term_table[i].name, only(config, static_cast<Term>(i)), constant(config, static_cast<Term>(i))});
  all.push_back({"all together", whole_objective(config)});
  return all;
}

/// The terms one by one, then the weighted sum: a step computes them all.
Values all_values(TestModel& model, const StepData& data) {
  const StepTerms terms = model.accumulate(data, whole_objective(model.session.config()));
  Values values(terms.value.begin(), terms.value.end());
  values.push_back(terms.loss);
  return values;
}

Values random_direction(const std::string& name, size_t n, int number) {
  Values d(n);
  const uint64_t key = hash_key(static_cast<uint64_t>(number), "direction " + name);
  for (size_t i = 0; i < n; ++i) d[i] = random_normal(key, i);
  const double length = norm(d);
  for (double& v : d) v /= length;
  return d;
}

/// Derivatives of every objective at 0 along `direction` of one weight; false when a choice changed on the way.
bool differentiate(TestModel& model, const StepData& data, const Choices& choices, const std::string& name,
                   const Values& direction, Values& derivatives) {
  const Values origin = model.weight(name);
  const auto at = [&](double step, bool& same) {
    Values moved = origin;
    for (size_t i = 0; i < moved.size(); ++i) moved[i] += step * h * direction[i];
    model.set_weight(name, moved);
    same = same && model.choices(data) == choices;
    return all_values(model, data);
  };
  bool same = true;
  const Values p2 = at(2, same), p1 = at(1, same), m1 = at(-1, same), m2 = at(-2, same);
  model.set_weight(name, origin);
  derivatives.resize(p1.size());
  for (size_t i = 0; i < p1.size(); ++i) derivatives[i] = (8 * (p1[i] - m1[i]) - (p2[i] - m2[i])) / (12 * h);
  return same;
}

void compare(Tracked& t, const std::string& name, const Values& direction, double derivative) {
  const Values& g = t.gradient.at(name);
  const double size = norm(g) / std::sqrt(static_cast<double>(g.size()));
  const double allowed = relative_tolerance * std::max(size, std::abs(derivative)) + absolute_tolerance;
  const double ratio = std::abs(derivative - dot(g, direction)) / allowed;
  if (ratio > t.worst || std::isnan(ratio)) {
    t.worst = ratio;
    t.where = fmt::format("{}: gradient {:.12g}, difference {:.12g}", name, dot(g, direction), derivative);
  }
}

TEST_CASE("Every gradient equals central differences of the scalar") {
  ReferenceOps ops;
  for (const Case& example : cases()) {
    DYNAMIC_SECTION(example.name) {
      Config config = tiny_config(Precision::fp64);
      example.change(config);
      TestModel model(ops, config, 2, 5);
      model.randomize(example.seed);
      StepData data = cut(random_batch(config, 2, 5, example.seed), example.micro_batches);
      data.targets[1] = data.targets[2] = data.targets[7] = -1;
      const Choices choices = model.choices(data);

      std::vector<Tracked> objectives = tracked_objectives(config);
      for (Tracked& t : objectives) {
        model.accumulate(data, t.objective);
        t.gradient = model.gradients();
      }
      for (const std::string& name : model.names()) {
        for (int number = 0; number < 2; ++number) {
          const Values direction = random_direction(name, model.weight(name).size(), number);
          Values derivatives;
          INFO("along a direction of " << name);
          REQUIRE(differentiate(model, data, choices, name, direction, derivatives));
          for (size_t i = 0; i < objectives.size(); ++i) compare(objectives[i], name, direction, derivatives[i]);
        }
      }
      for (const Tracked& t : objectives) {
        INFO(t.name << ", worst at " << t.where);
        CHECK(t.worst <= 1.0);
        double squares = 0;
        for (const auto& [name, g] : t.gradient) squares += dot(g, g);
        INFO("gradient squared = " << squares);
        CHECK((t.constant ? squares < 1e-24 : squares > 1e-8));  // a gradient that is all zero would prove nothing
      }
    }
  }
}

TEST_CASE("The loss is the weighted sum of the terms") {
  ReferenceOps ops;
  const Config config = tiny_config(Precision::fp64);
  TestModel model(ops, config, 2, 5);
  model.randomize(1);
  const StepData data = random_batch(config, 2, 5, 1);
  const StepTerms t = model.accumulate(data, whole_objective(config));
  const double sum = t[Term::ce] + 0.5 * t[Term::lb] + 0.3 * t[Term::z] + 0.7 * t[Term::sp] + 0.6 * t[Term::cp] +
                     0.2 * t[Term::o] + 0.9 * t[Term::v] - 0.4 * t[Term::entropy];
  CHECK(t.loss == Approx(sum).epsilon(1e-14));
  const StepTerms alone = model.runner.evaluate(data, only(config, Term::z));
  CHECK(alone.loss == t[Term::z]);
  CHECK(alone[Term::sp] == t[Term::sp]);  // values are there whatever the weights
  CHECK(alone[Term::o] == t[Term::o]);
}

}  // namespace
}  // namespace strand::test
