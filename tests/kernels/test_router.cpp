// The router: scores, selection, statistics, terms, and its backward.
#include <tuple>

#include "harness.h"
#include "kernels/cpu/block_sizes.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
struct Size {
  int64_t tokens, experts, top_k, groups;
};
// One expert, all experts chosen, one chosen, numbers of experts about the vector width, and several groups.
std::vector<Size> all_sizes() {
  std::vector<Size> all = {{1, 1, 1, 1},   {6, 4, 4, 3},     {37, 5, 1, 1},    {34, 16, 2, 2}, {70, 19, 3, 5},
                           {40, 96, 6, 1}, {5, 256, 256, 1}, {3, 1024, 40, 1}, {600, 33, 2, 1}};
  for (int64_t tokens : around(block_sizes::tokens)) all.push_back({tokens, 5, 2, 1});
  all.push_back({2 * (block_sizes::tokens * 5 / 2), 5, 2, 2});  // blocks begin anew with every group
  for (int64_t experts : around(block_sizes::statistics_experts)) all.push_back({9, experts, 2, 1});
  return all;
}
const std::vector<Size> sizes = all_sizes();

// Each with a factor of its own, as none of them may get lost.
const Gating gatings[] = {
    {.score = RouterScore::softmax, .renormalize = false, .routed_scale = 1.7},
    {.score = RouterScore::softmax, .renormalize = true, .routed_scale = 2.5},
    {.score = RouterScore::sigmoid, .renormalize = false, .routed_scale = 0.5},
    {.score = RouterScore::sigmoid, .renormalize = true, .routed_scale = 1.6},
};

void for_each_case(const std::function<void(Stage&, const Size&, const Gating&)>& body) {
  for (const Size& size : sizes) {
    for (Gating gating : gatings) {
      gating.top_k = size.top_k;
      INFO("T " << size.tokens << " E " << size.experts << " K " << size.top_k << " groups " << size.groups << " score "
                << int(gating.score) << " renormalize " << gating.renormalize);
      compare_all([&](Stage& s) { body(s, size, gating); });
    }
  }
}

/// What Route makes of the case's logits, as values for later operations, with their statistics.
struct Routed {
  Values probs, gates, statistics;
  Ids selected, top_experts;
};

Ids as_ids(const Values& values) {
  Ids ids;
  for (double v : values) ids.push_back(static_cast<int32_t>(v));
  return ids;
}

Routed route(const Stage& s, const Size& n, const Gating& gating) {
  const std::vector<Values> v = reference_values(s, [&](Stage& r) {
    const Route op{.gating = gating,
                   .logits = r.acc("logits", {n.tokens, n.experts}, 2),
                   .bias = r.acc("bias", {n.experts}, 0.1),
                   .probs = r.acc_out({n.tokens, n.experts}),
                   .selected = r.ids_out({n.tokens, n.top_k}),
                   .gates = r.acc_out({n.tokens, n.top_k})};
    r.run(op);
    const RoutingStatistics statistics{.probs = op.probs,
                                       .selected = op.selected,
                                       .statistics = r.acc_out({2, n.groups, n.experts}),
                                       .step_counts = r.acc("counts", {n.experts})};
    r.run(statistics);
    const CouplingMasses masses{.probs = op.probs,
                                .selected = op.selected,
                                .source_mass = r.acc_out({n.tokens}),
                                .top_mass = r.acc_out({n.tokens}),
                                .top_experts = r.ids_out({n.tokens, n.top_k})};
    r.run(masses);
    r.report("probs", op.probs);
    r.report("gates", op.gates);
    r.report("statistics", statistics.statistics);
    r.report("selected", op.selected);
    r.report("top_experts", masses.top_experts);
  });
  return {v[0], v[1], v[2], as_ids(v[3]), as_ids(v[4])};
}
}  // namespace

TEST_CASE("RouterLinear and its backward") {
  std::vector<std::tuple<int64_t, int64_t, int64_t>> products = {{1, 1, 1}, {5, 3, 7}, {37, 19, 48}, {130, 96, 33}};
  for (int64_t rows : around(block_sizes::widened_rows)) products.push_back({rows, 3, 5});
  for (int64_t elements : around(block_sizes::widened_elements)) products.push_back({1, 2, elements});
  for (const auto& [rows, experts, width] : products) {
    const int64_t T = rows, E = experts, D = width;
    INFO("T " << T << " E " << E << " D " << D);
    compare_all([&](Stage& s) {
      const RouterLinear op{.x = s.act("x", {T, D}), .weight = s.acc("w", {E, D}), .logits = s.acc_out({T, E})};
      s.run(op);
      s.report("logits", op.logits, {.terms = D}, Bits::same_on_as_many_threads);

      const RouterLinearBackward backward{.dlogits = s.acc("dlogits", {T, E}),
                                          .x = op.x,
                                          .weight = op.weight,
                                          .dx = s.acc("dx before", {T, D}),
                                          .dweight = s.acc("dw before", {E, D})};
      s.run(backward);
      s.report("dx", backward.dx, {.terms = E}, Bits::same_on_as_many_threads);
      s.report("dweight", backward.dweight, {.terms = T}, Bits::same_on_as_many_threads);
    });
  }
}

TEST_CASE("Route: probabilities, selection with and without a bias, gates") {
  for (bool biased : {false, true}) {
    INFO("bias " << biased);
    for_each_case([&](Stage& s, const Size& n, const Gating& gating) {
      Route op{.gating = gating, .logits = s.acc("logits", {n.tokens, n.experts}, 2)};
      if (biased) op.bias = s.acc("bias", {n.experts}, 0.1);
      op.probs = s.acc_out({n.tokens, n.experts});
      op.selected = s.ids_out({n.tokens, n.top_k});
      op.gates = s.acc_out({n.tokens, n.top_k});
      s.run(op);
      s.report("probs", op.probs, {.terms = n.experts});
      s.report("selected", op.selected);
      s.report("gates", op.gates, {.terms = n.experts});
    });
  }
}

TEST_CASE("Route: experts come from the groups that are kept") {
  struct Groups {
    int64_t experts, groups, kept, top_k;
  };
  // One group of two, two experts in each group, one group kept that is chosen whole, and groups beside every width.
  const auto g = GENERATE(Groups{4, 2, 1, 2}, Groups{12, 6, 5, 3}, Groups{16, 4, 2, 4}, Groups{57, 3, 2, 5},
                          Groups{96, 8, 4, 8}, Groups{256, 8, 4, 8}, Groups{1024, 512, 40, 9});
  const bool biased = GENERATE(false, true);
  for (Gating gating : gatings) {
    gating.top_k = g.top_k;
    gating.groups = g.groups;
    gating.groups_kept = g.kept;
    INFO("E " << g.experts << " groups " << g.groups << " score " << int(gating.score) << " bias " << biased);
    compare_all([&](Stage& s) {
      const int64_t T = 37, E = g.experts;
      Route op{.gating = gating, .logits = s.acc("logits", {T, E}, 2)};
      if (biased) {  // about -0.8, so that most s + b are negative
        Values bias(static_cast<size_t>(E));
        for (size_t e = 0; e < bias.size(); ++e) bias[e] = -0.8 + 0.01 * static_cast<double>(e * 7 % 19);
        op.bias = s.acc_of({E}, bias);
      }
      op.probs = s.acc_out({T, E});
      op.selected = s.ids_out({T, g.top_k});
      op.gates = s.acc_out({T, g.top_k});
      s.run(op);
      s.report("probs", op.probs, {.terms = E});
      s.report("selected", op.selected);
      s.report("gates", op.gates, {.terms = E});
    });
  }
}

TEST_CASE("Route: a group is worth its two best experts, and equal groups go to the lower index") {
  compare_all([](Stage& s) {
    // Sigmoid grows with the logit. Token 0: the best expert stands in group 0 beside a bad one. Token 1: all equal.
    const Values logits = {3, -9, 1, 1, 0.5, 1.2, /**/ 2, 2, 2, 2, 2, 2};
    const Route op{.gating = {.score = RouterScore::sigmoid, .top_k = 2, .groups = 3, .groups_kept = 1},
                   .logits = s.acc_of({2, 6}, logits),
                   .probs = s.acc_out({2, 6}),
                   .selected = s.ids_out({2, 2}),
                   .gates = s.acc_out({2, 2})};
    s.run(op);
    s.report("selected", op.selected);
    CHECK(s.read(op.selected) == Values{2, 3, 0, 1});
  });
}

TEST_CASE("Route: equal scores go to the lower index, and large logits do not overflow") {
  for (int64_t E : {3, 16, 19, 37}) {
    for (Gating gating : gatings) {
      gating.top_k = 3;
      INFO("E " << E << " score " << int(gating.score));
      compare_all([&](Stage& s) {
        const int64_t T = 4;
        Values logits(static_cast<size_t>(T * E), 0.25);  // token 0: all equal
        for (int64_t e = 0; e < E; ++e) {
          logits[static_cast<size_t>(E + e)] = e % 2 == 0 ? -1 : 1;          // two values
          logits[static_cast<size_t>(2 * E + e)] = e == E - 1 ? 300 : -300;  // one expert has everything
          logits[static_cast<size_t>(3 * E + e)] = static_cast<double>(e % 5) * 20;
        }
        const Route op{.gating = gating,
                       .logits = s.acc_of({T, E}, logits),
                       .probs = s.acc_out({T, E}),
                       .selected = s.ids_out({T, 3}),
                       .gates = s.acc_out({T, 3})};
        s.run(op);
        // Scores of sigmoid(±300) and of exp(−600) are equal to each other in f32 where f64 still tells them apart, so
        // only what both agree on is compared: tokens 0 and 1, and the first choice of the others.
        s.report("probs", op.probs, {.terms = E});
        s.report("selected", op.selected.rows(0, 2));
        if (gating.score == RouterScore::softmax) s.report("first of token 2", op.selected[2].rows(0, 1));
        s.report("gates", op.gates.rows(0, 2), {.terms = E});
      });
    }
  }
}

TEST_CASE("RoutingStatistics: exact counts, sums of p, step counts accumulated") {
  for_each_case([](Stage& s, const Size& n, const Gating& gating) {
    const Routed routed = route(s, n, gating);
    const RoutingStatistics op{.probs = s.acc_of({n.tokens, n.experts}, routed.probs),
                               .selected = s.ids_of({n.tokens, n.top_k}, routed.selected),
                               .statistics = s.acc_out({2, n.groups, n.experts}),
                               .step_counts = s.acc_of({n.experts}, Values(static_cast<size_t>(n.experts), 3.0))};
    s.run(op);
    s.report("counts", op.statistics[0]);
    s.report("sums", op.statistics[1], {.terms = n.tokens / n.groups});
    s.report("step counts", op.step_counts);
  });
}

TEST_CASE("RouterTerms: all terms together and each alone") {
  enum Terms : int { lb = 1, z = 2, v = 4, entropy = 8, all = 15 };
  for (int measured : {int(all), int(lb), int(z), int(v), int(entropy), 0}) {
    INFO("measured " << measured);
    for_each_case([&](Stage& s, const Size& n, const Gating& gating) {
      const Routed routed = route(s, n, gating);
      const double T = static_cast<double>(n.tokens), group = T / static_cast<double>(n.groups);
      RouterTerms op{.logits = s.acc("logits", {n.tokens, n.experts}, 2),
                     .probs = s.acc_of({n.tokens, n.experts}, routed.probs),
                     .mean_share = 1 / group,
                     .lb_scale = 0.5 / (T * group),
                     .z_scale = 1 / T,
                     .v_scale = 1 / T,
                     .entropy_scale = 1 / T};
      if (measured & (lb | v)) op.statistics = s.acc_of({2, n.groups, n.experts}, routed.statistics);
      if (measured & lb) op.lb = s.scalar();
      if (measured & z) op.z = s.scalar();
      if (measured & v) op.v = s.scalar();
      if (measured & entropy) op.entropy = s.scalar();
      s.run(op);
      if (op.lb) s.report("lb", op.lb, {.terms = n.tokens});
      if (op.z) s.report("z", op.z, {.terms = n.experts});
      if (op.v) s.report("v", op.v, {.terms = n.experts});
      if (op.entropy) s.report("entropy", op.entropy, {.terms = n.experts});
    });
  }
}

TEST_CASE("RouterBackward: every term alone and all together") {
  enum Terms : int {
    gates_only = 0,
    lb = 1,
    v = 2,
    z = 4,
    cp_above = 8,
    cp_below = 16,
    probs = 32,
    entropy = 64,
    activated = 128,
  };
  for (int terms : {int(gates_only), int(lb), int(v), int(z), int(cp_above), cp_above | activated, int(cp_below),
                    int(probs), int(entropy), 127, 255}) {
    INFO("terms " << terms);
    for_each_case([&](Stage& s, const Size& n, const Gating& gating) {
      const Routed routed = route(s, n, gating);
      const double group = static_cast<double>(n.tokens) / static_cast<double>(n.groups);
      RouterBackward op{.gating = gating,
                        .logits = s.acc("logits", {n.tokens, n.experts}, 2),
                        .probs = s.acc_of({n.tokens, n.experts}, routed.probs),
                        .selected = s.ids_of({n.tokens, n.top_k}, routed.selected),
                        .gates = s.acc_of({n.tokens, n.top_k}, routed.gates),
                        .dgates = s.acc("dgates", {n.tokens, n.top_k}, 0.1),
                        .mean_share = 1 / group};
      if (terms & (lb | v)) op.statistics = s.acc_of({2, n.groups, n.experts}, routed.statistics);
      const double T = static_cast<double>(n.tokens), E = static_cast<double>(n.experts);
      if (terms & lb) op.lb_scale = 3 * E / (static_cast<double>(n.top_k) * T * group);
      if (terms & v) op.v_scale = 0.5;
      if (terms & z) op.z_scale = 0.1;
      if (terms & entropy) op.entropy_scale = -0.3;
      if (terms & (cp_above | cp_below)) op.cp_scale = 0.2;
      if ((terms & activated) != 0) op.cp_sources = CouplingSources::activated;
      if (terms & cp_above) op.above_top_mass = s.acc("above", {n.tokens});
      if (terms & cp_below) {
        op.below_source_mass = s.acc("below", {n.tokens});
        op.top_experts = s.ids_of({n.tokens, n.top_k}, routed.top_experts);
      }
      if (terms & probs) op.dprobs = s.acc("dprobs", {n.tokens, n.experts}, 0.1);
      op.dlogits = s.acc_out({n.tokens, n.experts});
      s.run(op);
      // Of one expert's p = 1 the gradient 3 of LB cancels, and that of one renormalized gate, 2.5 · 0.1 times a
      // normal number.
      const double cancelled = n.experts == 1 ? 5 : gating.renormalize && n.top_k == 1 ? 1 : 0;
      s.report("dlogits", op.dlogits, {.terms = n.experts, .cancelled = cancelled});
    });
  }
}

TEST_CASE("RouterBiasUpdate: the sign of the difference, zero at the mean") {
  compare_all([](Stage& s) {
    const RouterBiasUpdate op{.step_counts = s.acc_of({5}, {4, 4, 0, 8, 4}),
                              .rate = 0.125,
                              .bias = s.acc("bias", {5}),
                              .numbers = s.numbers()};
    s.run(op);
    s.report("bias", op.bias);
  });
  compare_all([](Stage& s) {
    const RouterBiasUpdate op{
        .step_counts = s.acc_of({3}, {7, 1, 2}), .rate = 0.001, .bias = s.acc("bias", {3}), .numbers = s.numbers()};
    s.run(op);
    s.report("bias", op.bias);
  });
}
