// The router and the coupling of layers, at small sizes: what must fail when a bug of router_bugs.cpp is planted.
#include "kernels/harness.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
constexpr int64_t T = 12, E = 37, K = 3, groups = 3;
const Gating gatings[] = {{.score = RouterScore::softmax, .renormalize = false, .routed_scale = 1.0, .top_k = K},
                          {.score = RouterScore::sigmoid, .renormalize = true, .routed_scale = 2.5, .top_k = K}};

/// What the router makes of the case's logits: by the reference where it is the input of another operation.
struct Layer {
  Tensor logits, probs, selected, gates, statistics, top_experts;
};
Layer routed(Stage& s, const Gating& gating) {
  const std::vector<Values> v = reference_values(s, [&](Stage& r) {
    const Route op{.gating = gating,
                   .logits = r.acc("logits", {T, E}, 2),
                   .probs = r.acc_out({T, E}),
                   .selected = r.ids_out({T, K}),
                   .gates = r.acc_out({T, K})};
    r.run(op);
    const RoutingStatistics statistics{.probs = op.probs,
                                       .selected = op.selected,
                                       .statistics = r.acc_out({2, groups, E}),
                                       .step_counts = r.acc("counts", {E})};
    r.run(statistics);
    const CouplingMasses masses{.probs = op.probs,
                                .selected = op.selected,
                                .source_mass = r.acc_out({T}),
                                .top_mass = r.acc_out({T}),
                                .top_experts = r.ids_out({T, K})};
    r.run(masses);
    for (const Tensor& x : {op.probs, op.gates, statistics.statistics, op.selected, masses.top_experts})
      r.report("", x);
  });
  const auto ids = [](const Values& values) { return Ids(values.begin(), values.end()); };
  return {.logits = s.acc("logits", {T, E}, 2),
          .probs = s.acc_of({T, E}, v[0]),
          .selected = s.ids_of({T, K}, ids(v[3])),
          .gates = s.acc_of({T, K}, v[1]),
          .statistics = s.acc_of({2, groups, E}, v[2]),
          .top_experts = s.ids_of({T, K}, ids(v[4]))};
}
}  // namespace

TEST_CASE("router products", "[case]") {
  constexpr int64_t tokens = 70, experts = 37, width = 19;
  compare_all([](Stage& s) {
    const RouterLinear op{.x = s.act("x", {tokens, width}),
                          .weight = s.acc("w", {experts, width}),
                          .logits = s.acc_out({tokens, experts})};
    s.run(op);
    s.report("logits", op.logits, {.terms = width});
    const RouterLinearBackward backward{.dlogits = s.acc("dlogits", {tokens, experts}),
                                        .x = op.x,
                                        .weight = op.weight,
                                        .dx = s.acc("dx before", {tokens, width}),
                                        .dweight = s.acc("dw before", {experts, width})};
    s.run(backward);
    s.report("dx", backward.dx, {.terms = experts});
    s.report("dweight", backward.dweight, {.terms = tokens});
  });
}

TEST_CASE("routing", "[case]") {
  for (const Gating& gating : gatings) {
    compare_all([&](Stage& s) {
      const Route op{.gating = gating,
                     .logits = s.acc("logits", {T, E}, 2),
                     .bias = s.acc("bias", {E}, 0.1),
                     .probs = s.acc_out({T, E}),
                     .selected = s.ids_out({T, K}),
                     .gates = s.acc_out({T, K})};
      s.run(op);
      s.report("probs", op.probs, {.terms = E});
      s.report("selected", op.selected);
      s.report("gates", op.gates, {.terms = E});
      const RoutingStatistics statistics{.probs = op.probs,
                                         .selected = op.selected,
                                         .statistics = s.acc_out({2, groups, E}),
                                         .step_counts = s.acc_of({E}, Values(E, 3.0))};
      s.run(statistics);
      s.report("statistics", statistics.statistics, {.terms = E + T});
      s.report("step counts", statistics.step_counts);
    });
  }
}

TEST_CASE("routing by groups", "[case]") {
  constexpr int64_t experts = 36;
  const Gating gating{
      .score = RouterScore::sigmoid, .renormalize = true, .routed_scale = 1, .top_k = K, .groups = 6, .groups_kept = 2};
  compare_all([&](Stage& s) {
    const Route op{.gating = gating,
                   .logits = s.acc("logits", {T, experts}, 2),
                   .bias = s.acc("bias", {experts}, 0.1),
                   .probs = s.acc_out({T, experts}),
                   .selected = s.ids_out({T, K}),
                   .gates = s.acc_out({T, K})};
    s.run(op);
    s.report("selected", op.selected);
    s.report("gates", op.gates, {.terms = experts});
  });
}

TEST_CASE("router terms", "[case]") {
  compare_all([](Stage& s) {
    const Layer layer = routed(s, gatings[0]);
    const RouterTerms op{.logits = layer.logits,
                         .probs = layer.probs,
                         .statistics = layer.statistics,
                         .mean_share = 1.0 * groups / T,
                         .lb_scale = 0.01,
                         .z_scale = 1.0 / T,
                         .v_scale = 1.0 / T,
                         .entropy_scale = 1.0 / T,
                         .lb = s.scalar(),
                         .z = s.scalar(),
                         .v = s.scalar(),
                         .entropy = s.scalar()};
    s.run(op);
    s.report("lb", op.lb, {.terms = T});
    s.report("z", op.z, {.terms = E});
    s.report("v", op.v, {.terms = E});
    s.report("entropy", op.entropy, {.terms = E});
  });
}

TEST_CASE("router backward", "[case]") {
  for (const Gating& gating : gatings) {
    for (const CouplingSources sources : {CouplingSources::all, CouplingSources::activated}) {
      compare_all([&](Stage& s) {
        const Layer layer = routed(s, gating);
        RouterBackward op{.gating = gating,
                          .logits = layer.logits,
                          .probs = layer.probs,
                          .selected = layer.selected,
                          .gates = layer.gates,
                          .dgates = s.acc("dgates", {T, K}, 0.1),
                          .mean_share = 1.0 * groups / T};
        op.statistics = layer.statistics;
        op.lb_scale = 0.3;
        op.v_scale = 0.5;
        op.z_scale = 0.1;
        op.entropy_scale = -0.3;
        op.cp_scale = 0.2;
        op.cp_sources = sources;
        op.above_top_mass = s.acc("above", {T});
        op.below_source_mass = s.acc("below", {T});
        op.top_experts = layer.top_experts;
        op.dlogits = s.acc_out({T, E});
        s.run(op);
        s.report("dlogits", op.dlogits, {.terms = E});
      });
    }
  }
  compare_all([](Stage& s) {
    const RouterBiasUpdate op{.step_counts = s.acc_of({5}, {4, 4, 0, 8, 4}),
                              .rate = 0.125,
                              .bias = s.acc("bias", {5}),
                              .numbers = s.numbers()};
    s.run(op);
    s.report("bias", op.bias);
  });
}

TEST_CASE("coupling of tokens", "[case]") {
  for (CouplingSources sources : {CouplingSources::all, CouplingSources::activated}) {
    compare_all([&](Stage& s) {
      const Layer layer = routed(s, gatings[0]);
      const CouplingMasses op{.sources = sources,
                              .probs = layer.probs,
                              .selected = layer.selected,
                              .source_mass = s.acc_out({T}),
                              .top_mass = s.acc_out({T}),
                              .top_experts = s.ids_out({T, K})};
      s.run(op);
      s.report("source_mass", op.source_mass, {.terms = E});
      s.report("top_mass", op.top_mass, {.terms = K});
      s.report("top_experts", op.top_experts);
      const CouplingTokenTerm term{.lower_source_mass = op.source_mass,
                                   .upper_top_mass = s.acc("mass above", {T}),
                                   .cp_scale = 1.0 / T,
                                   .cp = s.scalar()};
      s.run(term);
      s.report("cp", term.cp, {.terms = T + E});
    });
  }
}

// 70 tokens are one split of three tiles, 260 are two splits. Probabilities may be any numbers.
TEST_CASE("coupling of batches", "[case]") {
  using Side = CouplingJointBackward::Side;
  for (int64_t tokens : {70, 260}) {
    compare_all([&](Stage& s) {
      constexpr int64_t lower = 9, upper = 7;
      Ids selected;
      for (int64_t t = 0; t < tokens; ++t)
        for (int64_t k = 0; k < 2; ++k) selected.push_back(static_cast<int32_t>((t * 5 + k * 3) % lower));
      const Tensor below = s.acc("lower", {tokens, lower}), above = s.acc("upper", {tokens, upper});
      const CouplingJoint op{.sources = CouplingSources::activated,
                             .lower_probs = below,
                             .lower_selected = s.ids_of({tokens, 2}, selected),
                             .upper_probs = above,
                             .joint = s.acc_out({lower, upper})};
      s.run(op);
      s.report("joint", op.joint, {.terms = tokens});
      const CouplingSelect select{.joint = s.acc("joint", {lower, upper}),
                                  .top_k = 2,
                                  .cp_scale = 0.1,
                                  .mask = s.acc_out({lower, upper}),
                                  .cp = s.scalar()};
      s.run(select);
      s.report("mask", select.mask);
      s.report("cp", select.cp, {.terms = lower * 2});
      for (Side side : {Side::lower, Side::upper}) {
        const CouplingJointBackward backward{
            .side = side,
            .sources = CouplingSources::activated,
            .lower_probs = below,
            .lower_selected = op.lower_selected,
            .upper_probs = above,
            .mask = select.mask,
            .cp_scale = 0.75,
            .dprobs = s.acc("dprobs before", {tokens, side == Side::lower ? lower : upper})};
        s.run(backward);
        s.report("dprobs", backward.dprobs, {.terms = lower + upper});
      }
    });
  }
}
