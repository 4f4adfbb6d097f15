// Sort, dispatch, SwiGLU with SP, combine with O.
#include <tuple>

#include "expert_cases.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
/// The Gram matrices that the reference finds for the case's gate_up.
Values reference_gram(const Stage& s, const Size& n) {
  return reference_values(s, [&](Stage& r) {
    const Sorted rows = sorted(r, n);
    const Tensor gram = r.acc_out({n.tokens, n.top_k, n.top_k});
    r.run(Swiglu{.gate_up = rows_input(r, "gate_up", rows, 2 * n.width),
                 .map = rows.map,
                 .z = r.act_out({rows.capacity, n.width}),
                 .gram = gram});
    r.report("gram", gram);
  })[0];
}
}  // namespace

TEST_CASE("SortSlots: a stable counting sort with aligned blocks") {
  for_each_case([](Stage& s, const Size& n) {
    const RowMap map{.row_of_slot = s.ids_out({n.tokens, n.top_k}),
                     .slot_of_row = s.ids_out({capacity(s, n) + 5}),
                     .offsets = s.ids_out({n.experts + 1})};
    s.run(SortSlots{.selected = s.ids_of({n.tokens, n.top_k}, selection(n)), .alignment = s.alignment(), .map = map});
    const auto used = static_cast<int64_t>(s.read(map.offsets).back());
    s.report("offsets", map.offsets);
    s.report("row_of_slot", map.row_of_slot);
    s.report("slot_of_row", map.slot_of_row.rows(0, used));
  });
}

TEST_CASE("DispatchRows: each row is its token, padding is zero") {
  for_each_case([](Stage& s, const Size& n) {
    const Sorted rows = sorted(s, n);
    const DispatchRows op{
        .x = s.act("x", {n.tokens, n.width}), .map = rows.map, .rows = s.act_out({rows.capacity, n.width})};
    s.run(op);
    s.report("rows", op.rows.rows(0, rows.used));
  });
}

// A bf16 backend may take the Gram matrix of z before or after the rounding of its two factors.
TEST_CASE("Swiglu: with a map, with and without gram") {
  for (bool with_gram : {false, true}) {
    INFO("gram " << with_gram);
    for_each_case([&](Stage& s, const Size& n) {
      const Sorted rows = sorted(s, n);
      Swiglu op{.gate_up = rows_input(s, "gate_up", rows, 2 * n.width),
                .map = rows.map,
                .z = s.act_out({rows.capacity, n.width})};
      if (with_gram) op.gram = s.acc_out({n.tokens, n.top_k, n.top_k});
      s.run(op);
      s.report("z", op.z.rows(0, rows.used));
      if (with_gram) s.report("gram", op.gram, {.terms = n.width, .roundings = 2});
    });
  }
}

TEST_CASE("Swiglu and its backward without a map: a dense expert, in place or not") {
  for (bool in_place : {false, true}) {
    INFO("in place " << in_place);
    for_each_case([&](Stage& s, const Size& n) {
      const Tensor gate_up = s.act("gate_up", {n.tokens, 2 * n.width}, 3), dz = s.act("dz", {n.tokens, n.width});
      const Tensor z = s.act_out({n.tokens, n.width});
      s.run(Swiglu{.gate_up = gate_up, .z = z});
      s.report("z", z);

      const SwigluBackward op{.gate_up = gate_up,
                              .dz = dz,
                              .weighted_z = in_place ? dz : s.act_out({n.tokens, n.width}),
                              .dgate_up = in_place ? gate_up : s.act_out({n.tokens, 2 * n.width})};
      s.run(op);
      s.report("weighted_z", op.weighted_z);
      s.report("dgate_up", op.dgate_up);
    });
  }
}

TEST_CASE("SwigluBackward: gates, SP on all tokens and on a sample, in place or not") {
  struct Variant {
    double sp_scale, fraction;
    bool gated, in_place;
  };
  for (const auto& [sp_scale, fraction, gated, in_place] : {Variant{0, 1, true, false},
                                                            {0, 1, false, true},
                                                            {0.5, 1, true, false},
                                                            {0.5, 1, true, true},
                                                            {0.5, 0.4, true, true},
                                                            {0.5, 1, false, false}}) {
    INFO("sp " << sp_scale << " fraction " << fraction << " gates " << gated << " in place " << in_place);
    for_each_case([&](Stage& s, const Size& n) {
      const Sorted rows = sorted(s, n);
      SwigluBackward op{
          .gate_up = rows_input(s, "gate_up", rows, 2 * n.width),
          .dz = rows_input(s, "dz", rows, n.width),
          .map = rows.map,
          .sp_scale = sp_scale,
          .sample = {
              .fraction = fraction, .numbers = s.numbers({{StepNumber::sample_key_low, 99}}), .first_token = 1000}};
      if (gated) op.gates = s.acc("gates", {n.tokens, n.top_k});
      if (gated) op.dgates = s.acc_out({n.tokens, n.top_k});
      if (sp_scale != 0) op.gram = s.acc_of({n.tokens, n.top_k, n.top_k}, reference_gram(s, n));
      op.weighted_z = in_place ? op.dz : s.act_out({rows.capacity, n.width});
      op.dgate_up = in_place ? op.gate_up : s.act_out({rows.capacity, 2 * n.width});
      s.run(op);
      // z may be the rounded one that forward kept; in dgates its errors are those of a sum that may cancel.
      s.report("weighted_z", op.weighted_z.rows(0, rows.used), {.roundings = 1});
      s.report("dgate_up", op.dgate_up.rows(0, rows.used), {.terms = n.top_k, .roundings = 1});
      if (gated) s.report("dgates", op.dgates, {.terms = n.width, .roundings = 2});
    });
  }
}

namespace {
/// Gram matrices of random vectors, and of a vector that is zero.
Values grams(int64_t tokens, int64_t k, int64_t width) {
  Values gram;
  const uint64_t key = hash_key(5, "grams");
  for (int64_t t = 0; t < tokens; ++t) {
    const auto v = [&](int64_t i, int64_t d) {
      if (t == 0 && i == 0) return 0.0;
      return random_normal(key, static_cast<uint64_t>((t * k + i) * width + d));
    };
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = 0; j < k; ++j) {
        gram.push_back(0);
        for (int64_t d = 0; d < width; ++d) gram.back() += v(i, d) * v(j, d);
      }
    }
  }
  return gram;
}
}  // namespace

TEST_CASE("SpecializationTerm and OrthogonalityTerm, a zero vector among the tokens") {
  std::vector<std::tuple<int64_t, int64_t>> counts = {{1, 1}, {7, 2}, {37, 3}, {130, 8}};
  for (int64_t tokens : around(block_sizes::tokens)) counts.push_back({tokens, 2});
  for (const auto& [tokens, top_k] : counts) {
    const int64_t T = tokens, K = top_k;
    for (double fraction : {1.0, 0.3}) {
      INFO("T " << T << " K " << K << " fraction " << fraction);
      compare_all([&](Stage& s) {
        const Tensor gram = s.acc_of({T, K, K}, grams(T, K, 9));
        const Tensor sp = s.scalar(), o = s.scalar();
        s.run(SpecializationTerm{.gram = gram,
                                 .sample = {.fraction = fraction,
                                            .numbers = s.numbers({{StepNumber::sample_key_low, 3}}),
                                            .first_token = 50},
                                 .sp_scale = 1.0 / (static_cast<double>(T) * fraction),
                                 .sp = sp});
        s.run(OrthogonalityTerm{.gram = gram, .o_scale = 1.0 / static_cast<double>(T), .o = o});
        s.report("sp", sp, {.terms = K * K});
        s.report("o", o, {.terms = K * K});
      });
    }
  }
}

TEST_CASE("SP of a vector shorter than 1e-12 is zero with zero gradient") {
  compare_all([](Stage& s) {
    // One token, K = 2, F = 1: z_0 = silu(gate) up with up = 0, z_1 of ordinary size. R may exceed the two rows.
    const int64_t R = 2 + 2 * (s.alignment() - 1);
    const RowMap map{.row_of_slot = s.ids_out({1, 2}), .slot_of_row = s.ids_out({R}), .offsets = s.ids_out({3})};
    s.run(SortSlots{.selected = s.ids_of({1, 2}, {0, 1}), .alignment = s.alignment(), .map = map});
    const auto second = static_cast<size_t>(s.read(map.row_of_slot)[1]);
    Values gate_up(static_cast<size_t>(2 * R), 0.0);
    gate_up[0] = 1;
    gate_up[2 * second] = gate_up[2 * second + 1] = 1;
    const Tensor rows = s.act_of({R, 2}, gate_up), z = s.act_out({R, 1}), gram = s.acc_out({1, 2, 2}), sp = s.scalar();
    s.run(Swiglu{.gate_up = rows, .map = map, .z = z, .gram = gram});
    s.run(SpecializationTerm{.gram = gram, .sp_scale = 1, .sp = sp});
    s.report("sp", sp);
    const SwigluBackward op{.gate_up = rows,
                            .dz = s.act_of({R, 1}, Values(static_cast<size_t>(R), 0.0)),
                            .map = map,
                            .gates = s.acc_of({1, 2}, {1, 1}),
                            .gram = gram,
                            .sp_scale = 1,
                            .weighted_z = s.act_out({R, 1}),
                            .dgate_up = s.act_out({R, 2}),
                            .dgates = s.acc_out({1, 2})};
    s.run(op);
    s.report("dgate_up", op.dgate_up.rows(0, 1));
  });
}

TEST_CASE("CombineRows: gates or none, overwriting and accumulating, with and without gram") {
  for (bool gated : {true, false}) {
    for (Write write : {Write::overwrite, Write::accumulate}) {
      for (bool with_gram : {false, true}) {
        INFO("gates " << gated << " write " << int(write) << " gram " << with_gram);
        for_each_case([&](Stage& s, const Size& n) {
          const Sorted rows = sorted(s, n);
          CombineRows op{.rows = rows_input(s, "rows", rows, n.width), .map = rows.map, .write = write};
          if (gated) op.gates = s.acc("gates", {n.tokens, n.top_k});
          op.out = write == Write::overwrite ? s.acc_out({n.tokens, n.width}) : s.acc("before", {n.tokens, n.width});
          if (with_gram) op.gram = s.acc_out({n.tokens, n.top_k, n.top_k});
          s.run(op);
          s.report("out", op.out, {.terms = n.top_k});
          if (with_gram) s.report("gram", op.gram, {.terms = n.width});
        });
      }
    }
  }
}

TEST_CASE("CombineBackward: the expert outputs' gradient with O") {
  for (double o_scale : {0.0, 0.3}) {
    INFO("o " << o_scale);
    for_each_case([&](Stage& s, const Size& n) {
      const Sorted rows = sorted(s, n);
      const Values gram = reference_values(s, [&](Stage& r) {
        const Sorted same = sorted(r, n);
        const Tensor out = r.acc_out({n.tokens, n.top_k, n.top_k});
        r.run(CombineRows{.rows = rows_input(r, "y", same, n.width),
                          .map = same.map,
                          .out = r.acc_out({n.tokens, n.width}),
                          .gram = out});
        r.report("gram", out);
      })[0];
      const CombineBackward op{.dout = s.act("dout", {n.tokens, n.width}),
                               .y = rows_input(s, "y", rows, n.width),
                               .map = rows.map,
                               .gates = s.acc("gates", {n.tokens, n.top_k}),
                               .gram = s.acc_of({n.tokens, n.top_k, n.top_k}, gram),
                               .o_scale = o_scale,
                               .dy = s.act_out({rows.capacity, n.width}),
                               .dgates = s.acc_out({n.tokens, n.top_k})};
      s.run(op);
      s.report("dy", op.dy.rows(0, rows.used), {.terms = n.top_k * n.top_k});
      s.report("dgates", op.dgates, {.terms = n.width});
    });
  }
}
