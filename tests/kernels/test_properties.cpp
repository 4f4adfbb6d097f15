// What the terms must be in cases where the answer is known without computing (docs/mathematics.md, section 5), on
// every backend.
#include <cmath>

#include "gradients.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
void on_every_backend(const std::function<void(Stage&)>& body) {
  ReferenceStage reference;
  body(reference);
  for (const Backend& backend : backends()) {
    INFO(backend.name);
    Stage s(*backend.ops, backend.act, backend.act, backend.ops->device().row_alignment());
    body(s);
  }
}
/// What was added to a scalar that began at 0.5.
double added(Stage& s, const Tensor& scalar) {
  return s.read(scalar)[0] - 0.5;
}
constexpr double f32_error = 1e-6;
}  // namespace

TEST_CASE("perfect balance gives LB = 1") {
  on_every_backend([](Stage& s) {
    const int64_t E = 4, T = 8, K = 2;  // equal logits; tokens take turns
    const double p = 0.25, tokens = T;
    const Tensor lb = s.scalar();
    Values statistics(static_cast<size_t>(2 * E), tokens * K / E);
    for (size_t e = 4; e < 8; ++e) statistics[e] = tokens * p;
    s.run(RouterTerms{.logits = s.acc_of({T, E}, Values(static_cast<size_t>(T * E), 0.0)),
                      .probs = s.acc_of({T, E}, Values(static_cast<size_t>(T * E), p)),
                      .statistics = s.acc_of({2, 1, E}, statistics),
                      .mean_share = 1 / tokens,
                      .lb_scale = E / (K * tokens * tokens),
                      .lb = lb});
    CHECK(added(s, lb) == Approx(1).epsilon(f32_error));
  });
}

TEST_CASE("the entropy of equal probabilities is ln E, and that of certainty 0") {
  on_every_backend([](Stage& s) {
    const int64_t E = 5, T = 3;
    const auto entropy_of = [&](const Values& one_token) {
      Values probs;
      for (int64_t t = 0; t < T; ++t) probs.insert(probs.end(), one_token.begin(), one_token.end());
      const Tensor entropy = s.scalar();
      s.run(RouterTerms{.logits = s.acc_of({T, E}, Values(static_cast<size_t>(T * E), 0.0)),
                        .probs = s.acc_of({T, E}, probs),
                        .entropy_scale = 1.0 / T,
                        .entropy = entropy});
      return added(s, entropy);
    };
    CHECK(entropy_of(Values(5, 0.2)) == Approx(std::log(5.0)).epsilon(f32_error));
    CHECK(entropy_of({0, 0, 1, 0, 0}) == 0);
    CHECK(entropy_of({0, 0.5, 0, 0.5, 0}) == Approx(std::log(2.0)).epsilon(f32_error));
    // A probability that f32 cannot hold in full precision, or at all.
    CHECK(entropy_of({1e-40, 1, 1e-46, 0, 0}) == Approx(0).margin(f32_error));
  });
}

TEST_CASE("identical experts give SP = K(K-1), orthogonal ones 0") {
  on_every_backend([](Stage& s) {
    const int64_t T = 5, K = 3, rows = T * K, R = rows + K * (s.alignment() - 1), F = 3;
    Ids selected;
    for (int64_t t = 0; t < T; ++t) selected.insert(selected.end(), {0, 1, 2});
    const RowMap map{.row_of_slot = s.ids_out({T, K}), .slot_of_row = s.ids_out({R}), .offsets = s.ids_out({K + 1})};
    s.run(SortSlots{.selected = s.ids_of({T, K}, selected), .alignment = s.alignment(), .map = map});
    const Values row_of_slot = s.read(map.row_of_slot);
    const auto term = [&](bool identical) {
      // up = (1, 1, 1) for identical rows, the unit vector of the expert for orthogonal ones
      Values gate_up(static_cast<size_t>(R * 2 * F), 0.0);
      for (size_t slot = 0; slot < row_of_slot.size(); ++slot) {
        for (size_t f = 0; f < 3; ++f) {
          const size_t row = static_cast<size_t>(row_of_slot[slot]) * 6;
          gate_up[row + f] = 1;
          gate_up[row + 3 + f] = identical || slot % 3 == f ? 1 : 0;
        }
      }
      const Tensor gram = s.acc_out({T, K, K}), sp = s.scalar();
      s.run(Swiglu{.gate_up = s.act_of({R, 2 * F}, gate_up), .map = map, .z = s.act_out({R, F}), .gram = gram});
      s.run(SpecializationTerm{.gram = gram, .sp_scale = 1.0 / T, .sp = sp});
      return added(s, sp);
    };
    CHECK(term(true) == Approx(K * (K - 1)).epsilon(f32_error));
    CHECK(term(false) == Approx(0).margin(f32_error));
  });
}

// −Σ_{e∈S_t} Σ_{ν∈top-K} p_te p_tν term by term, against the product of two masses.
TEST_CASE("CP of one token factorises into source mass and top-K mass") {
  for (CouplingSources sources : {CouplingSources::all, CouplingSources::activated}) {
    on_every_backend([&](Stage& s) {
      const int64_t T = 3, E = 6, K = 2;
      const auto layer = [&](const std::string& name) {
        const Route route{.gating = {.top_k = K},
                          .logits = s.acc(name, {T, E}),
                          .probs = s.acc_out({T, E}),
                          .selected = s.ids_out({T, K}),
                          .gates = s.acc_out({T, K})};
        s.run(route);
        const CouplingMasses masses{.sources = sources,
                                    .probs = route.probs,
                                    .selected = route.selected,
                                    .source_mass = s.acc_out({T}),
                                    .top_mass = s.acc_out({T}),
                                    .top_experts = s.ids_out({T, K})};
        s.run(masses);
        return masses;
      };
      const CouplingMasses lower = layer("lower"), upper = layer("upper");
      const Tensor cp = s.scalar();
      s.run(CouplingTokenTerm{
          .lower_source_mass = lower.source_mass, .upper_top_mass = upper.top_mass, .cp_scale = 1.0 / T, .cp = cp});

      const Values p = s.read(lower.probs), q = s.read(upper.probs), selected = s.read(lower.selected);
      double expected = 0;
      for (size_t t = 0; t < 3; ++t) {
        for (size_t e = 0; e < 6; ++e) {
          const auto index = static_cast<double>(e);
          if (sources == CouplingSources::activated && selected[t * 2] != index && selected[t * 2 + 1] != index)
            continue;
          Values products;
          for (size_t v = 0; v < 6; ++v) products.push_back(p[t * 6 + e] * q[t * 6 + v]);
          std::sort(products.rbegin(), products.rend());
          expected -= (products[0] + products[1]) / 3;
        }
      }
      CHECK(added(s, cp) == Approx(expected).epsilon(f32_error));
    });
  }
}

// m = 0.1, v = 0.001, so m̂ = v̂ = 1 after one update with gradient 1: w = 2 − 0.1 (1/(1 + eps) + 0.5·2) = 1.8.
TEST_CASE("the first AdamW update of a unit gradient is one step of the learning rate plus decay") {
  on_every_backend([](Stage& s) {
    const AdamW op{.weight = s.acc_of({2}, {2, -2}),
                   .gradient = s.acc_of({2}, {4, -4}),
                   .m = s.acc_of({2}, {0, 0}),
                   .v = s.acc_of({2}, {0, 0}),
                   .beta1 = 0.9,
                   .beta2 = 0.999,
                   .eps = 1e-8,
                   .decay = 0.5,
                   .numbers = s.numbers({{StepNumber::learning_rate, 0.1}, {StepNumber::gradient_scale, 0.25}})};
    s.run(op);
    const Values w = s.read(op.weight);
    CHECK(w[0] == Approx(1.8).epsilon(f32_error));
    CHECK(w[1] == Approx(-1.8).epsilon(f32_error));
    CHECK(s.read(op.m)[0] == Approx(0.1).epsilon(f32_error));
    CHECK(s.read(op.v)[0] == Approx(0.001).epsilon(f32_error));
  });
}

TEST_CASE("arguments that do not fit are refused with operation and field named") {
  ReferenceStage s;
  const Linear wrong{.x = s.act("x", {2, 3}), .weight = s.act("w", {4, 5}), .y = s.act_out({2, 4})};
  CHECK_THROWS_WITH(s.run(wrong), Catch::Contains("Linear") && Catch::Contains("weight"));
  const Linear missing{.x = s.act("x", {2, 3}), .weight = s.act("w", {4, 3})};
  CHECK_THROWS_WITH(s.run(missing), Catch::Contains("Linear") && Catch::Contains("y is missing"));
}
