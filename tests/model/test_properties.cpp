// What must not depend on how a step is cut into micro-steps, and what must; Proposition 4.1; sampling for SP.
#include <cmath>
#include <memory>
#include <numeric>

#include "kernels/cpu/backend.h"
#include "kernels/reference/reference_ops.h"
#include "kernels/staging.h"
#include "tests/catch.h"
#include "tests/model/harness.h"

namespace strand::test {
namespace {

constexpr int64_t sequences = 4, tokens = 6;

/// A backend and how far equal sums in another order may be apart on it: a few hundred additions of terms of order one
/// in f64, and docs/mathematics.md, section 5's number for f32.
struct Precise {
  std::unique_ptr<Ops> ops;
  Precision precision;
  double tolerance;
};

std::vector<Precise> backends() {
  std::vector<Precise> all;
  all.push_back({std::make_unique<ReferenceOps>(), Precision::fp64, 1e-12});
  all.push_back({make_cpu_ops(), Precision::fp32, 1e-5});
  return all;
}

/// Ignored targets, many in one micro-step and few in another.
StepData uneven_batch(const Config& config) {
  StepData data = random_batch(config, sequences, tokens, 3);
  for (int64_t i = 0; i < 2 * tokens - 1; ++i) data.targets[static_cast<size_t>(i)] = -1;
  data.targets[static_cast<size_t>(3 * tokens)] = -1;
  return data;
}

struct Outcome {
  StepTerms terms;
  NamedValues gradients;
};

Outcome outcome(TestModel& model, const StepData& data) {
  Outcome o;
  o.terms = model.accumulate(data, whole_objective(model.session.config()));
  o.gradients = model.gradients();
  return o;
}

const std::vector<std::vector<int64_t>> cuts = {{1, 1, 1, 1}, {2, 2}, {1, 3}};

TEST_CASE("Sequence scope: a step is the same however it is cut into micro-steps") {
  struct Case {
    const char* name;
    void (*change)(Config&);
  };
  const Case table[] = {
      {"softmax, K = 2", [](Config&) {}},
      {"sigmoid, shared expert, activated sources, K = 3",
       [](Config& c) {
         c.moe.score = RouterScore::sigmoid;
         c.moe.renormalize = true;
         c.moe.shared_experts = 1;
         c.moe.top_k = 3;
         c.losses.cp_sources = CouplingSources::activated;
       }},
      {"sampled SP", [](Config& c) { c.losses.sp_token_fraction = 0.4; }},
      {"latent attention, YaRN",
       [](Config& c) {
         use_latent_attention(c, 8);
         use_yarn(c);
       }},
  };
  for (const Precise& backend : backends()) {
    for (const Case& example : table) {
      DYNAMIC_SECTION(backend.ops->name() << ", " << example.name) {
        Config config = tiny_config(backend.precision);
        example.change(config);
        TestModel model(*backend.ops, config, sequences, tokens);
        model.randomize(5);
        const StepData data = uneven_batch(config);
        const Outcome whole = outcome(model, data);
        for (double term : whole.terms.value) CHECK(std::abs(term) > 1e-4);
        for (const auto& micro_batches : cuts) {
          const Outcome parts = outcome(model, cut(data, micro_batches));
          for (int i = 0; i < term_count; ++i) {
            INFO(term_table[i].name << " in " << micro_batches.size() << " micro-steps");
            CHECK(parts.terms.value[size_t(i)] ==
                  Approx(whole.terms.value[size_t(i)]).epsilon(backend.tolerance).margin(0));
          }
          CHECK(relative_error(parts.gradients, whole.gradients) <= backend.tolerance);
        }
      }
    }
  }
}

/// The mean of terms and gradients over `parts`, each of which is a step of its own.
Outcome mean_outcome(TestModel& model, const std::vector<StepData>& parts) {
  Outcome mean;
  const double share = 1.0 / static_cast<double>(parts.size());
  for (const StepData& part : parts) {
    const Outcome o = outcome(model, part);
    for (int i = 0; i < term_count; ++i) mean.terms.value[size_t(i)] += share * o.terms.value[size_t(i)];
    for (const auto& [name, values] : o.gradients) {
      Values& sum = mean.gradients[name];
      sum.resize(values.size());
      for (size_t i = 0; i < values.size(); ++i) sum[i] += share * values[i];
    }
  }
  return mean;
}

TEST_CASE("Micro-step scope: LB, V and CP's batch form are means over the micro-steps") {
  for (const Precise& backend : backends()) {
    DYNAMIC_SECTION(backend.ops->name()) {
      Config config = tiny_config(backend.precision);
      config.losses.lb_scope = StatisticsScope::microbatch;
      config.losses.cp_paths = CouplingPaths::batch;
      TestModel model(*backend.ops, config, sequences, tokens);
      model.randomize(5);
      // Every target valid: then CE, too, is the mean of the halves'.
      const StepData data = random_batch(config, sequences, tokens, 3);
      const Outcome whole = outcome(model, data), halves = outcome(model, cut(data, {2, 2}));
      const Outcome mean = mean_outcome(model, {sequences_of(data, 0, 2), sequences_of(data, 2, 4)});
      for (int i = 0; i < term_count; ++i) {
        INFO(term_table[i].name);
        CHECK(halves.terms.value[size_t(i)] ==
              Approx(mean.terms.value[size_t(i)]).epsilon(backend.tolerance).margin(0));
      }
      CHECK(relative_error(halves.gradients, mean.gradients) <= backend.tolerance);
      // These three depend on how the step is cut.
      for (Term term : {Term::lb, Term::v, Term::cp}) {
        INFO(term_table[static_cast<size_t>(term)].name);
        CHECK(std::abs(halves.terms[term] - whole.terms[term]) > 1e-4 * std::abs(whole.terms[term]));
      }
      for (Term term : {Term::ce, Term::z, Term::sp, Term::o, Term::entropy})
        CHECK(halves.terms[term] == Approx(whole.terms[term]).epsilon(backend.tolerance).margin(0));
    }
  }
}

TEST_CASE("Micro-steps of one sequence make micro-step scope and sequence scope one") {
  for (const Precise& backend : backends()) {
    DYNAMIC_SECTION(backend.ops->name()) {
      Config by_sequence = tiny_config(backend.precision), by_micro_step = by_sequence;
      by_micro_step.losses.lb_scope = StatisticsScope::microbatch;
      TestModel a(*backend.ops, by_sequence, sequences, tokens), b(*backend.ops, by_micro_step, sequences, tokens);
      a.randomize(5);
      b.randomize(5);
      const StepData data = uneven_batch(by_sequence);
      const Outcome one = outcome(a, data), other = outcome(b, cut(data, {1, 1, 1, 1}));
      for (Term term : {Term::lb, Term::v})
        CHECK(other.terms[term] == Approx(one.terms[term]).epsilon(backend.tolerance).margin(0));
      CHECK(relative_error(other.gradients, one.gradients) <= backend.tolerance);
    }
  }
}

TEST_CASE("Without a valid target CE is 0, and the rest is as ever") {
  for (const Precise& backend : backends()) {
    DYNAMIC_SECTION(backend.ops->name()) {
      const Config config = tiny_config(backend.precision);
      TestModel model(*backend.ops, config, sequences, tokens);
      model.randomize(5);
      StepData data = random_batch(config, sequences, tokens, 3);
      Objective without_ce = whole_objective(config);
      without_ce.ce_weight = 0;
      const StepTerms expected = model.accumulate(data, without_ce);
      const NamedValues gradients = model.gradients();
      std::fill(data.targets.begin(), data.targets.end(), -1);
      const Outcome o = outcome(model, data);
      CHECK(o.terms[Term::ce] == 0.0);
      CHECK(std::isfinite(o.terms.loss));
      for (Term term : {Term::lb, Term::z, Term::sp, Term::cp, Term::o, Term::v, Term::entropy})
        CHECK(o.terms[term] == expected[term]);
      CHECK(relative_error(o.gradients, gradients) <= backend.tolerance);
    }
  }
}

// ---- Proposition 4.1
// ------------------------------------------------------------------------------------------------

/// y = W x, W [rows, x.size()].
Values times(const Values& w, const Values& x) {
  Values y(w.size() / x.size());
  for (size_t r = 0; r < y.size(); ++r)
    for (size_t i = 0; i < x.size(); ++i) y[r] += w[r * x.size() + i] * x[i];
  return y;
}

Values rms_norm(const Values& x, const Values& weight, double eps) {
  const double scale = 1.0 / std::sqrt(dot(x, x) / static_cast<double>(x.size()) + eps);
  Values y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] * scale * weight[i];
  return y;
}

/// What the FFN of layer 0 receives when the text is one token: attention to oneself returns one's own v.
Values ffn_input(TestModel& model, int32_t token) {
  const ModelConfig& c = model.session.config().model;
  const auto d = static_cast<size_t>(c.hidden_size);
  const Values embed = model.weight("embed_tokens.weight");
  const size_t row = static_cast<size_t>(token) * d;
  Values x(embed.begin() + static_cast<std::ptrdiff_t>(row), embed.begin() + static_cast<std::ptrdiff_t>(row + d));
  const Values v = times(model.weight("layers.0.attn.v_proj.weight"),
                         rms_norm(x, model.weight("layers.0.attn_norm.weight"), c.norm_eps));
  Values heads;
  for (int64_t head = 0; head < c.num_heads; ++head) {
    const auto own = v.begin() + head / (c.num_heads / c.num_kv_heads) * c.head_dim;
    heads.insert(heads.end(), own, own + c.head_dim);
  }
  const Values attended = times(model.weight("layers.0.attn.o_proj.weight"), heads);
  for (size_t i = 0; i < d; ++i) x[i] += attended[i];
  return rms_norm(x, model.weight("layers.0.ffn_norm.weight"), c.norm_eps);
}

/// z = silu(gate x) ⊙ (up x) of an expert of layer 0.
Values expert_z(TestModel& model, int expert, const Values& x) {
  const std::string prefix = "layers.0.moe.experts." + std::to_string(expert);
  const Values gate = times(model.weight(prefix + ".gate_proj.weight"), x);
  Values z = times(model.weight(prefix + ".up_proj.weight"), x);
  for (size_t i = 0; i < z.size(); ++i) z[i] *= gate[i] / (1.0 + std::exp(-gate[i]));
  return z;
}

TEST_CASE("Proposition 4.1: for one token, gradients of down projections are as similar as the experts' z") {
  ReferenceOps ops;
  for (const bool sigmoid : {false, true}) {
    Config config = tiny_config(Precision::fp64);
    config.moe.top_k = 3;
    config.moe.score = sigmoid ? RouterScore::sigmoid : RouterScore::softmax;
    config.moe.renormalize = sigmoid;
    TestModel model(ops, config, 1, 1);
    model.randomize(7);
    StepData one{1, {1}, {4}, {11}};
    const StepTerms terms = model.accumulate(one, only(config, Term::ce));
    const NamedValues gradients = model.gradients();
    const Values x = ffn_input(model, 4), selected = model.selected(0);
    const auto down = [&](double e) {
      return gradients.at("layers.0.moe.experts." + std::to_string(static_cast<int>(e)) + ".down_proj.weight");
    };
    double sum = 0;
    for (size_t i = 0; i < selected.size(); ++i) {
      for (size_t j = 0; j < selected.size(); ++j) {
        if (i == j) continue;
        const double of_z = cosine(expert_z(model, static_cast<int>(selected[i]), x),
                                   expert_z(model, static_cast<int>(selected[j]), x));
        CHECK(cosine(down(selected[i]), down(selected[j])) == Approx(of_z).epsilon(1e-10));
        sum += of_z * of_z;
      }
    }
    // The pairs of this layer are its share of SP; the other layer's are not negative and at most K (K − 1).
    CHECK(terms[Term::sp] >= sum * (1 - 1e-12));
    CHECK(terms[Term::sp] <= sum + 6);
  }
}

// ---- sp_token_fraction
// ----------------------------------------------------------------------------------------------

TEST_CASE("Sampled SP is unbiased, value and gradient") {
  ReferenceOps ops;
  Config config = tiny_config(Precision::fp64);
  config.moe.top_k = 3;
  TestModel full(ops, config, 2, tokens);
  config.losses.sp_token_fraction = 0.3;
  TestModel sampled(ops, config, 2, tokens);
  full.randomize(2);
  sampled.randomize(2);
  const StepData data = random_batch(config, 2, tokens, 2);
  const std::string watched = "layers.0.moe.experts.1.up_proj.weight";
  const double expected = full.accumulate(data, only(full.session.config(), Term::sp))[Term::sp];
  const Values gradient = full.gradients().at(watched);
  // The gradient is seen along one direction: its own.
  const double length = norm(gradient);

  constexpr int draws = 600;
  double value_sum = 0, value_squares = 0, along_sum = 0, along_squares = 0;
  for (int i = 0; i < draws; ++i) {
    const double value = sampled.accumulate(data, only(config, Term::sp), i)[Term::sp];
    const double along = dot(sampled.gradients().at(watched), gradient) / length;
    value_sum += value;
    value_squares += value * value;
    along_sum += along;
    along_squares += along * along;
  }
  const auto off = [](double sum, double squares, double truth) {
    const double mean = sum / draws, variance = squares / draws - mean * mean;
    REQUIRE(variance > 0);
    return std::abs(mean - truth) / std::sqrt(variance / draws);
  };
  // Fixed seeds, so this passes or fails for good; 4 standard errors leave a correct program 1 chance in 16,000.
  CHECK(off(value_sum, value_squares, expected) < 4.0);
  CHECK(off(along_sum, along_squares, length) < 4.0);
}

}  // namespace
}  // namespace strand::test
