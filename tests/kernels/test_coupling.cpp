// Cross-layer coupling in both forms.
#include "harness.h"
#include "kernels/cpu/block_sizes.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
struct Size {
  int64_t tokens, lower, lower_k, upper, upper_k;
};
std::vector<Size> all_sizes() {
  std::vector<Size> all = {{1, 1, 1, 1, 1}, {5, 4, 4, 3, 2}, {37, 16, 2, 16, 2}, {70, 19, 3, 33, 5}, {33, 96, 6, 8, 8}};
  for (int64_t tokens : around(block_sizes::tokens)) all.push_back({tokens, 4, 2, 5, 2});
  for (int64_t tokens : around(block_sizes::joint_tokens)) all.push_back({tokens, 4, 2, 5, 2});
  for (int64_t experts : around(block_sizes::joint_rows)) all.push_back({6, experts, 2, 17, 3});
  return all;
}
const std::vector<Size> sizes = all_sizes();
const CouplingSources all_sources[] = {CouplingSources::all, CouplingSources::activated};

/// Probabilities and selections as the router makes them.
struct Layer {
  Tensor probs, selected;
};
Layer layer(Stage& s, const std::string& name, int64_t T, int64_t E, int64_t K) {
  const std::vector<Values> routed = reference_values(s, [&](Stage& r) {
    const Route op{.gating = {.top_k = K},
                   .logits = r.acc(name + " logits", {T, E}),
                   .bias = r.acc(name + " bias", {E}, 0.1),
                   .probs = r.acc_out({T, E}),
                   .selected = r.ids_out({T, K}),
                   .gates = r.acc_out({T, K})};
    r.run(op);
    r.report("probs", op.probs);
    r.report("selected", op.selected);
  });
  return {s.acc_of({T, E}, routed[0]), s.ids_of({T, K}, Ids(routed[1].begin(), routed[1].end()))};
}

void for_each_case(const std::function<void(Stage&, const Size&, CouplingSources)>& body) {
  for (const Size& size : sizes) {
    for (CouplingSources sources : all_sources) {
      INFO("T " << size.tokens << " E " << size.lower << " E' " << size.upper << " sources " << int(sources));
      compare_all([&](Stage& s) { body(s, size, sources); });
    }
  }
}
}  // namespace

TEST_CASE("CouplingMasses and the token term") {
  for_each_case([](Stage& s, const Size& n, CouplingSources sources) {
    const Layer lower = layer(s, "lower", n.tokens, n.lower, n.lower_k);
    const CouplingMasses op{.sources = sources,
                            .probs = lower.probs,
                            .selected = lower.selected,
                            .source_mass = s.acc_out({n.tokens}),
                            .top_mass = s.acc_out({n.tokens}),
                            .top_experts = s.ids_out({n.tokens, n.lower_k})};
    s.run(op);
    s.report("source_mass", op.source_mass, {.terms = n.lower});
    s.report("top_mass", op.top_mass, {.terms = n.lower_k});
    s.report("top_experts", op.top_experts);

    const CouplingTokenTerm term{.lower_source_mass = op.source_mass,
                                 .upper_top_mass = s.acc("mass above", {n.tokens}),
                                 .cp_scale = 1 / static_cast<double>(n.tokens),
                                 .cp = s.scalar()};
    s.run(term);
    s.report("cp", term.cp, {.terms = n.tokens + n.lower});
  });
}

TEST_CASE("CouplingMasses: equal probabilities go to the lower index") {
  for (int64_t E : {4, 16, 19}) {
    compare_all([&](Stage& s) {
      const CouplingMasses op{.probs = s.acc_of({1, E}, Values(static_cast<size_t>(E), 0.0625)),
                              .selected = s.ids_of({1, 3}, {3, 1, 2}),
                              .source_mass = s.acc_out({1}),
                              .top_mass = s.acc_out({1}),
                              .top_experts = s.ids_out({1, 3})};
      s.run(op);
      s.report("top_experts", op.top_experts);
      s.report("top_mass", op.top_mass);
    });
  }
}

TEST_CASE("CouplingJoint") {
  for_each_case([](Stage& s, const Size& n, CouplingSources sources) {
    const Layer lower = layer(s, "lower", n.tokens, n.lower, n.lower_k);
    const Layer upper = layer(s, "upper", n.tokens, n.upper, n.upper_k);
    const CouplingJoint op{.sources = sources,
                           .lower_probs = lower.probs,
                           .lower_selected = lower.selected,
                           .upper_probs = upper.probs,
                           .joint = s.acc_out({n.lower, n.upper})};
    s.run(op);
    s.report("joint", op.joint, {.terms = n.tokens});
  });
}

TEST_CASE("CouplingSelect: apart and in place, ties to the lower index") {
  for (bool in_place : {false, true}) {
    for (const Size& n : sizes) {
      for (bool ties : {false, true}) {
        INFO("E " << n.lower << " E' " << n.upper << " in place " << in_place << " ties " << ties);
        compare_all([&](Stage& s) {
          Values joint = s.read(s.acc("joint", {n.lower, n.upper}));
          if (ties)
            for (size_t i = 0; i < joint.size(); ++i) joint[i] = static_cast<double>(i * i % 3);
          CouplingSelect op{.joint = s.acc_of({n.lower, n.upper}, joint),
                            .top_k = n.upper_k,
                            .cp_scale = 1 / static_cast<double>(n.lower * n.upper_k),
                            .cp = s.scalar()};
          op.mask = in_place ? op.joint : s.acc_out({n.lower, n.upper});
          s.run(op);
          s.report("mask", op.mask);
          s.report("cp", op.cp, {.terms = n.lower * n.upper_k});
        });
      }
    }
  }
}

TEST_CASE("CouplingJointBackward: both sides") {
  using Side = CouplingJointBackward::Side;
  for (Side side : {Side::lower, Side::upper}) {
    INFO("side " << int(side));
    for_each_case([&](Stage& s, const Size& n, CouplingSources sources) {
      const Layer lower = layer(s, "lower", n.tokens, n.lower, n.lower_k);
      const Layer upper = layer(s, "upper", n.tokens, n.upper, n.upper_k);
      Values mask(static_cast<size_t>(n.lower * n.upper));
      for (size_t i = 0; i < mask.size(); ++i) mask[i] = i * 7 % 3 == 0 ? 1 : 0;
      const CouplingJointBackward op{.side = side,
                                     .sources = sources,
                                     .lower_probs = lower.probs,
                                     .lower_selected = lower.selected,
                                     .upper_probs = upper.probs,
                                     .mask = s.acc_of({n.lower, n.upper}, mask),
                                     .cp_scale = 0.75,
                                     .dprobs = s.acc("before", {n.tokens, side == Side::lower ? n.lower : n.upper})};
      s.run(op);
      s.report("dprobs", op.dprobs, {.terms = n.lower + n.upper});
    });
  }
}
