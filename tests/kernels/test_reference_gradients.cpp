// Every backward operation of the reference backend is the derivative of its forward operation: central differences.
// (The router's: test_router_gradients.cpp.)
#include "gradients.h"
#include "kernels/host_numbers.h"

using namespace strand;
using namespace strand::test;

TEST_CASE("gradients: Linear") {
  ReferenceStage s;
  const int64_t T = 4, I = 5, O = 3;
  const Tensor x = s.act("x", {T, I}), w = s.act("w", {O, I}), dy = s.act("dy", {T, O}), y = s.act_out({T, O});
  const auto f = [&] {
    s.run(Linear{.x = x, .weight = w, .y = y});
    return functional(dy, y);
  };
  const Tensor dx = s.act_out({T, I}), dw = s.zeros({O, I});
  s.run(LinearBackwardInput{.dy = dy, .weight = w, .dx = dx});
  s.run(LinearBackwardWeight{.dy = dy, .x = x, .dweight = dw});
  check_gradient("x", x, dx, f);
  check_gradient("w", w, dw, f);
}

TEST_CASE("gradients: RouterLinear") {
  ReferenceStage s;
  const int64_t T = 4, D = 5, E = 3;
  const Tensor x = s.act("x", {T, D}), w = s.acc("w", {E, D}), dq = s.acc("dq", {T, E}), q = s.acc_out({T, E});
  const auto f = [&] {
    s.run(RouterLinear{.x = x, .weight = w, .logits = q});
    return functional(dq, q);
  };
  const Tensor dx = s.zeros({T, D}), dw = s.zeros({E, D});
  s.run(RouterLinearBackward{.dlogits = dq, .x = x, .weight = w, .dx = dx, .dweight = dw});
  check_gradient("x", x, dx, f);
  check_gradient("w", w, dw, f);
}

TEST_CASE("gradients: GroupedLinear, an expert without rows among them") {
  ReferenceStage s;
  const int64_t E = 3, I = 4, O = 3, R = 6;
  const Tensor x = s.act("x", {R, I}), w = s.act("w", {E, O, I}), dy = s.act("dy", {R, O}), y = s.act_out({R, O});
  const Tensor offsets = s.ids_of({E + 1}, {0, 4, 4, 6});
  const auto f = [&] {
    s.run(GroupedLinear{.x = x, .weight = w, .offsets = offsets, .y = y});
    return functional(dy, y);
  };
  const Tensor dx = s.act_out({R, I}), dw = s.zeros({E, O, I});
  s.run(GroupedLinearBackwardInput{.dy = dy, .weight = w, .offsets = offsets, .dx = dx});
  s.run(GroupedLinearBackwardWeight{.dy = dy, .x = x, .offsets = offsets, .dweight = dw});
  check_gradient("x", x, dx, f);
  check_gradient("w", w, dw, f);
}

TEST_CASE("gradients: AddRmsNorm, with a gradient that reaches the sum on another way") {
  ReferenceStage s;
  const int64_t T = 3, D = 6;
  const Tensor residual = s.acc("residual", {T, D}), branch = s.acc("branch", {T, D}), w = s.acc("w", {D});
  const Tensor dy = s.acc("dy", {T, D}), dsum = s.acc("dsum", {T, D});
  const Tensor sum = s.acc_out({T, D}), y = s.act_out({T, D}), rstd = s.acc_out({T});
  const auto f = [&] {
    s.run(
        AddRmsNorm{.residual = residual, .branch = branch, .weight = w, .eps = 0.1, .sum = sum, .y = y, .rstd = rstd});
    return functional(dy, y) + functional(dsum, sum);
  };
  f();
  const Tensor dresidual = s.acc("dsum", {T, D}), dw = s.zeros({D}), copy = s.act_out({T, D});
  s.run(RmsNormBackward{.dy = dy,
                        .x = sum,
                        .weight = w,
                        .rstd = rstd,
                        .write = Write::accumulate,
                        .dresidual = dresidual,
                        .dresidual_act = copy,
                        .dweight = dw});
  check_gradient("residual", residual, dresidual, f);
  check_gradient("branch", branch, copy, f);
  check_gradient("w", w, dw, f);
}

TEST_CASE("gradients: LatentNorm, of columns in the middle") {
  ReferenceStage s;
  const int64_t T = 3, W = 9, n = 5, first = 2;
  const Tensor x = s.act("x", {T, W}), w = s.acc("w", {n}), dy = s.acc("dy", {T, n});
  const Tensor y = s.act_out({T, n}), rstd = s.acc_out({T});
  const auto f = [&] {
    s.run(LatentNorm{.x = x, .first = first, .weight = w, .eps = 0.1, .y = y, .rstd = rstd});
    return functional(dy, y);
  };
  f();
  const Tensor dx = s.zeros({T, W}), dw = s.zeros({n});
  s.run(LatentNormBackward{.dy = dy, .x = x, .first = first, .weight = w, .rstd = rstd, .dx = dx, .dweight = dw});
  check_gradient("x", x, dx, f);
  check_gradient("w", w, dw, f);
}

TEST_CASE("gradients: SplitLatentHeads, queries of their own and beside the latents") {
  const LatentLayout l{
      .sequences = 2, .tokens = 3, .heads = 2, .nope_dim = 3, .rope_dim = 4, .value_dim = 5, .latent = 6};
  for (const bool shared : {false, true}) {
    INFO("in one matrix: " << shared);
    ReferenceStage s;
    const int64_t T = l.rows(), width = l.heads * l.key_dim();
    const Tensor projected = s.act("projected", {T, width + l.cached_dim()});
    const Tensor queries = shared ? projected : s.act("queries", {T, width});
    const Tensor keys_values = s.act("keys and values", {T, l.heads * (l.nope_dim + l.value_dim)});
    const Tensor rotary = s.acc("angles", {l.tokens, l.rope_dim});  // a scaled rotation: any numbers will do
    const Shape heads{l.sequences, l.heads, l.tokens, l.key_dim()};
    const Shape values{l.sequences, l.heads, l.tokens, l.value_dim};
    const Tensor dq = s.act("dq", heads), dk = s.act("dk", heads), dv = s.act("dv", values);
    const SplitLatentHeads op{.layout = l,
                              .queries = queries,
                              .keys_values = keys_values,
                              .shared_key = projected,
                              .rotary = rotary,
                              .q = s.act_out(heads),
                              .k = s.act_out(heads),
                              .v = s.act_out(values)};
    const auto f = [&] {
      s.run(op);
      return functional(dq, op.q) + functional(dk, op.k) + functional(dv, op.v);
    };
    const Tensor dprojected = s.zeros(projected.shape);
    const Tensor dqueries = shared ? dprojected : s.act_out(queries.shape);
    const Tensor dkeys_values = s.act_out(keys_values.shape);
    s.run(SplitLatentHeadsBackward{.layout = l,
                                   .dq = dq,
                                   .dk = dk,
                                   .dv = dv,
                                   .rotary = rotary,
                                   .dqueries = dqueries,
                                   .dkeys_values = dkeys_values,
                                   .dshared_key = dprojected});
    check_gradient("projected", projected, dprojected, f);
    if (!shared) check_gradient("queries", queries, dqueries, f);
    check_gradient("keys and values", keys_values, dkeys_values, f);
  }
}

namespace {
const HeadLayout layouts[] = {
    {.sequences = 2, .tokens = 5, .heads = 4, .kv_heads = 2, .head_dim = 6, .rotary_dim = 4},
    {.sequences = 1, .tokens = 4, .heads = 3, .kv_heads = 1, .head_dim = 4, .rotary_dim = 4},
    {.sequences = 2, .tokens = 3, .heads = 2, .kv_heads = 2, .head_dim = 3, .rotary_dim = 0},
};
Shape q_shape(const HeadLayout& l) {
  return {l.sequences, l.heads, l.tokens, l.head_dim};
}
Shape kv_shape(const HeadLayout& l) {
  return {l.sequences, l.kv_heads, l.tokens, l.head_dim};
}
}  // namespace

TEST_CASE("gradients: SplitHeads with each norm") {
  for (const HeadLayout& l : layouts) {
    for (QkNorm norm : {QkNorm::none, QkNorm::head, QkNorm::full}) {
      INFO("H " << l.heads << " norm " << int(norm));
      ReferenceStage s;
      const int64_t T = l.sequences * l.tokens;
      SplitHeads op{.layout = l, .qkv = s.act("qkv", {T, (l.heads + 2 * l.kv_heads) * l.head_dim}), .norm = norm};
      op.eps = 0.1;
      if (l.rotary_dim > 0) {  // any angles will do
        Values table = s.read(s.acc("angles", {l.tokens, l.rotary_dim}));
        for (int64_t p = 0; p < l.tokens; ++p) {
          for (int64_t i = 0; i < l.rotary_dim / 2; ++i) {
            const auto at = static_cast<size_t>(p * l.rotary_dim + i);
            const double angle = table[at];
            table[at] = std::cos(angle);
            table[at + static_cast<size_t>(l.rotary_dim / 2)] = std::sin(angle);
          }
        }
        op.rotary = s.acc_of({l.tokens, l.rotary_dim}, table);
      }
      const bool full = norm == QkNorm::full;
      if (norm != QkNorm::none) {
        op.q_weight = s.acc("q weight", {full ? l.heads * l.head_dim : l.head_dim});
        op.k_weight = s.acc("k weight", {full ? l.kv_heads * l.head_dim : l.head_dim});
        op.q_rstd = s.acc_out({T, full ? 1 : l.heads});
        op.k_rstd = s.acc_out({T, full ? 1 : l.kv_heads});
      }
      op.q = s.act_out(q_shape(l));
      op.k = s.act_out(kv_shape(l));
      op.v = s.act_out(kv_shape(l));
      SplitHeadsBackward back{.layout = l,
                              .dq = s.act("dq", q_shape(l)),
                              .dk = s.act("dk", kv_shape(l)),
                              .dv = s.act("dv", kv_shape(l)),
                              .rotary = op.rotary,
                              .norm = norm,
                              .dqkv = s.act_out(op.qkv.shape)};
      const auto f = [&] {
        s.run(op);
        return functional(back.dq, op.q) + functional(back.dk, op.k) + functional(back.dv, op.v);
      };
      f();
      if (norm != QkNorm::none) {
        back.qkv = op.qkv;
        back.q_weight = op.q_weight;
        back.k_weight = op.k_weight;
        back.q_rstd = op.q_rstd;
        back.k_rstd = op.k_rstd;
        back.dq_weight = s.zeros(op.q_weight.shape);
        back.dk_weight = s.zeros(op.k_weight.shape);
      }
      s.run(back);
      check_gradient("qkv", op.qkv, back.dqkv, f);
      if (norm == QkNorm::none) continue;
      check_gradient("q_weight", op.q_weight, back.dq_weight, f);
      check_gradient("k_weight", op.k_weight, back.dk_weight, f);
    }
  }
}

TEST_CASE("gradients: Attention") {
  std::vector<HeadLayout> all(std::begin(layouts), std::end(layouts));
  all.push_back(
      {.sequences = 2, .tokens = 4, .heads = 4, .kv_heads = 2, .head_dim = 3, .value_dim = 5, .score_factor = 1.6});
  for (const HeadLayout& l : all) {
    INFO("H " << l.heads << " G " << l.kv_heads << " U " << l.value_width());
    ReferenceStage s;
    const Shape values{l.sequences, l.kv_heads, l.tokens, l.value_width()};
    const Shape rows{l.sequences * l.tokens, l.heads * l.value_width()}, statistics{l.sequences, l.heads, l.tokens};
    const Attention op{.layout = l,
                       .q = s.act("q", q_shape(l)),
                       .k = s.act("k", kv_shape(l)),
                       .v = s.act("v", values),
                       .out = s.act_out(rows),
                       .lse = s.acc_out(statistics)};
    const Tensor dout = s.act("dout", rows);
    const auto f = [&] {
      s.run(op);
      return functional(dout, op.out);
    };
    f();
    const AttentionBackward back{.layout = l,
                                 .q = op.q,
                                 .k = op.k,
                                 .v = op.v,
                                 .out = op.out,
                                 .lse = op.lse,
                                 .dout = dout,
                                 .delta = s.acc_out(statistics),
                                 .dq = s.act_out(q_shape(l)),
                                 .dk = s.act_out(kv_shape(l)),
                                 .dv = s.act_out(values)};
    s.run(back);
    check_gradient("q", op.q, back.dq, f);
    check_gradient("k", op.k, back.dk, f);
    check_gradient("v", op.v, back.dv, f);
  }
}

namespace {
/// Four tokens, three experts, K = 2, blocks of 4 rows: every block has padding, whose gradient must be zero.
struct Rows {
  static constexpr int64_t T = 4, E = 3, K = 2, R = T * K + E * 3;
  RowMap map;
  explicit Rows(ReferenceStage& s) {
    map = {.row_of_slot = s.ids_out({T, K}), .slot_of_row = s.ids_out({R}), .offsets = s.ids_out({E + 1})};
    s.run(SortSlots{.selected = s.ids_of({T, K}, {0, 2, 2, 1, 0, 2, 1, 2}), .alignment = 4, .map = map});
  }
  /// Rows of the buffers that no block holds are out of every sum; the tests' functionals must not see them.
  int64_t used(ReferenceStage& s) const { return static_cast<int64_t>(s.read(map.offsets).back()); }
};
}  // namespace

// f = Σ_slots gate ⟨dz', z⟩ + w SP: its derivative by dz' is gate · z, which the operation gives as weighted_z.
TEST_CASE("gradients: SwiGLU with gates and SP, on all tokens and on a sample") {
  for (double fraction : {1.0, 0.5}) {
    INFO("fraction " << fraction);
    ReferenceStage s(4);
    const Rows rows(s);
    const int64_t F = 5, used = rows.used(s);
    const TokenSample sample{.fraction = fraction, .numbers = s.numbers({{StepNumber::sample_key_low, 5}})};
    if (fraction < 1) {
      const HostSample on_host(sample);
      REQUIRE((on_host.contains(0) || on_host.contains(1) || on_host.contains(2) || on_host.contains(3)));
    }
    const Tensor gate_up = s.act("gate_up", {rows.R, 2 * F}), dz = s.act("dz", {rows.R, F});
    const Tensor gates = s.acc("gates", {rows.T, rows.K}), gram = s.acc_out({rows.T, rows.K, rows.K});
    const Tensor z = s.act_out({rows.R, F});
    const double sp_scale = 3.0 / static_cast<double>(rows.T) / fraction;
    const auto f = [&] {
      s.run(Swiglu{.gate_up = gate_up, .map = rows.map, .z = z, .gram = gram});
      const Tensor sp = s.zero();
      s.run(SpecializationTerm{.gram = gram, .sample = sample, .sp_scale = sp_scale, .sp = sp});
      double sum = s.read(sp)[0];
      const Values g = s.read(gates), slot_row = s.read(rows.map.row_of_slot);
      for (size_t slot = 0; slot < g.size(); ++slot) {
        const auto r = static_cast<int64_t>(slot_row[slot]);
        sum += g[slot] * functional(dz.rows(r, r + 1), z.rows(r, r + 1));
      }
      return sum;
    };
    f();
    const SwigluBackward op{.gate_up = gate_up,
                            .dz = dz,
                            .map = rows.map,
                            .gates = gates,
                            .gram = gram,
                            .sp_scale = sp_scale,
                            .sample = sample,
                            .weighted_z = s.act_out({rows.R, F}),
                            .dgate_up = s.act_out({rows.R, 2 * F}),
                            .dgates = s.acc_out({rows.T, rows.K})};
    s.run(op);
    check_gradient("gate_up", gate_up.rows(0, used), op.dgate_up.rows(0, used), f);
    check_gradient("gates", gates, op.dgates, f);
    check_gradient("dz", dz.rows(0, used), op.weighted_z.rows(0, used), f);
  }
}

TEST_CASE("gradients: SwiGLU of a dense expert") {
  ReferenceStage s;
  const int64_t T = 3, F = 4;
  const Tensor gate_up = s.act("gate_up", {T, 2 * F}), dz = s.act("dz", {T, F}), z = s.act_out({T, F});
  const auto f = [&] {
    s.run(Swiglu{.gate_up = gate_up, .z = z});
    return functional(dz, z);
  };
  const SwigluBackward op{
      .gate_up = gate_up, .dz = dz, .weighted_z = s.act_out({T, F}), .dgate_up = s.act_out({T, 2 * F})};
  s.run(op);
  check_gradient("gate_up", gate_up, op.dgate_up, f);
}

TEST_CASE("gradients: combine with gates and O; dispatch is the backward of combine without gates") {
  ReferenceStage s(4);
  const Rows rows(s);
  const int64_t D = 5, used = rows.used(s);
  const Tensor y = s.act("y", {rows.R, D}), gates = s.acc("gates", {rows.T, rows.K}), dout = s.act("dout", {rows.T, D});
  const Tensor gram = s.acc_out({rows.T, rows.K, rows.K}), out = s.acc_out({rows.T, D});
  const double o_scale = 2.0 / static_cast<double>(rows.T);
  const auto f = [&] {
    s.run(CombineRows{.rows = y, .map = rows.map, .gates = gates, .out = out, .gram = gram});
    const Tensor o = s.zero();
    s.run(OrthogonalityTerm{.gram = gram, .o_scale = o_scale, .o = o});
    return functional(dout, out) + s.read(o)[0];
  };
  f();
  const CombineBackward op{.dout = dout,
                           .y = y,
                           .map = rows.map,
                           .gates = gates,
                           .gram = gram,
                           .o_scale = o_scale,
                           .dy = s.act_out({rows.R, D}),
                           .dgates = s.acc_out({rows.T, rows.K})};
  s.run(op);
  check_gradient("y", y.rows(0, used), op.dy.rows(0, used), f);
  check_gradient("gates", gates, op.dgates, f);

  const auto ungated = [&] {
    s.run(CombineRows{.rows = y, .map = rows.map, .out = out});
    return functional(dout, out);
  };
  const Tensor dy = s.act_out({rows.R, D});
  s.run(DispatchRows{.x = dout, .map = rows.map, .rows = dy});
  check_gradient("y without gates", y.rows(0, used), dy.rows(0, used), ungated);
}

TEST_CASE("gradients: cross-entropy with ignored targets") {
  ReferenceStage s;
  const Tensor logits = s.acc("logits", {4, 7}), dlogits = s.act_out({4, 7});
  const Tensor targets = s.ids_of({4}, {3, -100, 0, 6});
  const double share = 1.0 / 3;
  const auto evaluate = [&](const Tensor& gradient) {
    const Tensor ce = s.zero();
    s.run(CrossEntropy{.logits = logits,
                       .targets = targets,
                       .numbers = s.numbers({{StepNumber::target_share, share}}),
                       .ce_weight = 1,
                       .ce = ce,
                       .dlogits = gradient});
    return s.read(ce)[0];
  };
  evaluate(dlogits);
  check_gradient("logits", logits, dlogits, [&] { return evaluate({}); });
}

TEST_CASE("gradients: embedding with a token that repeats") {
  ReferenceStage s;
  const Tensor tokens = s.ids_of({4}, {2, 0, 2, 1}), table = s.act("table", {4, 3}), dx = s.acc("dx", {4, 3});
  const Tensor x = s.acc_out({4, 3}), dtable = s.zeros({4, 3});
  s.run(EmbeddingBackward{.tokens = tokens, .dx = dx, .dtable = dtable});
  check_gradient("table", table, dtable, [&] {
    s.run(Embedding{.tokens = tokens, .table = table, .x = x});
    return functional(dx, x);
  });
}
