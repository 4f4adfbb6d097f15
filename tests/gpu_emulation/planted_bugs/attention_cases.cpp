// Attention, at small sizes: what must fail when a bug of attention_bugs.cpp is planted. 70 tokens are three blocks of
// queries in fp32 and two blocks of keys in bf16, the last of them ragged.
#include "kernels/harness.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
const HeadLayout l{.sequences = 1, .tokens = 70, .heads = 2, .kv_heads = 1, .head_dim = 24};
const Shape q_shape{1, 2, 70, 24}, kv_shape{1, 1, 70, 24}, rows{70, 48}, statistics{1, 2, 70};

Attention attention(Stage& s) {
  const Attention op{.layout = l,
                     .q = s.act("q", q_shape),
                     .k = s.act("k", kv_shape),
                     .v = s.act("v", kv_shape),
                     .out = s.act_out(rows),
                     .lse = s.acc_out(statistics)};
  s.run(op);
  return op;
}
}  // namespace

TEST_CASE("attention", "[case]") {
  compare_all([](Stage& s) {
    const Attention op = attention(s);
    s.report("out", op.out, {.terms = 94, .roundings = 1});
    s.report("lse", op.lse, {.terms = 94});
  });
}

TEST_CASE("attention backward", "[case]") {
  compare_all([](Stage& s) {
    const std::vector<Values> forward = reference_values(s, [](Stage& r) {
      const Attention op = attention(r);
      r.report("out", op.out);
      r.report("lse", op.lse);
    });
    const AttentionBackward op{.layout = l,
                               .q = s.act("q", q_shape),
                               .k = s.act("k", kv_shape),
                               .v = s.act("v", kv_shape),
                               .out = s.act_of(rows, forward[0]),
                               .lse = s.acc_of(statistics, forward[1]),
                               .dout = s.act("dout", rows),
                               .delta = s.acc_out(statistics),
                               .dq = s.act_out(q_shape),
                               .dk = s.act_out(kv_shape),
                               .dv = s.act_out(kv_shape)};
    s.run(op);
    const Tolerance tolerance{.terms = 2 * 94, .roundings = 2};
    s.report("dq", op.dq, tolerance);
    s.report("dk", op.dk, tolerance);
    s.report("dv", op.dv, tolerance);
  });
}

// Three new tokens of one sequence, and one token behind 259 others, whose positions are cut into parts.
TEST_CASE("cache", "[case]") {
  struct Case {
    int64_t tokens, positions;
    Ids sequence, position;
  };
  for (const Case& c : {Case{3, 9, {1, 1, 1}, {4, 5, 6}}, Case{1, 260, {1}, {259}}}) {
    const HeadLayout one{.sequences = 1, .tokens = c.tokens, .heads = 2, .kv_heads = 1, .head_dim = 20};
    compare_all([&](Stage& s) {
      const CachePlaces places{s.ids_of({c.tokens}, c.sequence), s.ids_of({c.tokens}, c.position)};
      const CacheAppend append{.layout = one,
                               .k = s.act("k", {1, 1, c.tokens, 20}),
                               .v = s.act("v", {1, 1, c.tokens, 20}),
                               .places = places,
                               .keys = s.act("keys", {2, 1, c.positions, 20}),
                               .values = s.act("values", {2, 1, c.positions, 20})};
      s.run(append);
      s.report("keys", append.keys);
      s.report("values", append.values);
      const CacheAttention op{.layout = one,
                              .q = s.act("q", {1, 2, c.tokens, 20}),
                              .places = places,
                              .keys = append.keys,
                              .values = append.values,
                              .out = s.act_out({c.tokens, 40})};
      s.run(op);
      s.report("out", op.out, {.terms = c.positions + 20, .roundings = 1});
    });
  }
}

// Values are narrower than keys: 24 of 40 elements, or 40 of 136, for which there are tiles of two widths.
TEST_CASE("attention with narrow values", "[case]") {
  struct Widths {
    int64_t tokens, head_dim, value_dim;
  };
  for (const Widths& w : {Widths{40, 40, 24}, Widths{34, 136, 40}}) {
    const HeadLayout narrow{.sequences = 1,
                            .tokens = w.tokens,
                            .heads = 2,
                            .kv_heads = 2,
                            .head_dim = w.head_dim,
                            .value_dim = w.value_dim,
                            .score_factor = 1.5};
    const Shape keys{1, 2, w.tokens, w.head_dim}, values{1, 2, w.tokens, w.value_dim};
    const Shape outputs{w.tokens, 2 * w.value_dim}, sums{1, 2, w.tokens};
    const auto forward = [&](Stage& s) {
      const Attention op{.layout = narrow,
                         .q = s.act("q", keys),
                         .k = s.act("k", keys),
                         .v = s.act("v", values),
                         .out = s.act_out(outputs),
                         .lse = s.acc_out(sums)};
      s.run(op);
      return op;
    };
    compare_all([&](Stage& s) {
      const int64_t terms = w.tokens + w.head_dim;
      s.report("out", forward(s).out, {.terms = terms, .roundings = 1});
      const std::vector<Values> given = reference_values(s, [&](Stage& r) {
        const Attention op = forward(r);
        r.report("out", op.out);
        r.report("lse", op.lse);
      });
      const AttentionBackward op{.layout = narrow,
                                 .q = s.act("q", keys),
                                 .k = s.act("k", keys),
                                 .v = s.act("v", values),
                                 .out = s.act_of(outputs, given[0]),
                                 .lse = s.acc_of(sums, given[1]),
                                 .dout = s.act("dout", outputs),
                                 .delta = s.acc_out(sums),
                                 .dq = s.act_out(keys),
                                 .dk = s.act_out(keys),
                                 .dv = s.act_out(values)};
      s.run(op);
      s.report("dq", op.dq, {.terms = terms, .roundings = 2});
      s.report("dk", op.dk, {.terms = terms, .roundings = 2});
      s.report("dv", op.dv, {.terms = terms, .roundings = 2});
    });
  }
}

TEST_CASE("latent norms", "[case]") {
  compare_all([](Stage& s) {
    const int64_t T = 11, W = 60, n = 40, first = 12;
    const LatentNorm op{.x = s.act("x", {T, W}),
                        .first = first,
                        .weight = s.acc("w", {n}),
                        .eps = 1e-6,
                        .y = s.act_out({T, n}),
                        .rstd = s.acc_out({T})};
    s.run(op);
    s.report("y", op.y, {.terms = n});
    s.report("rstd", op.rstd, {.terms = n});
    const LatentNormBackward backward{.dy = s.acc("dy", {T, n}),
                                      .x = op.x,
                                      .first = first,
                                      .weight = op.weight,
                                      .rstd = s.acc_of({T}, Values(T, 0.75)),
                                      .dx = s.act("dx before", {T, W}),
                                      .dweight = s.acc("dw before", {n})};
    s.run(backward);
    s.report("dx", backward.dx, {.terms = n});
    s.report("dw", backward.dweight, {.terms = T});
  });
}

namespace {
const LatentLayout latents{
    .sequences = 2, .tokens = 3, .heads = 3, .nope_dim = 10, .rope_dim = 6, .value_dim = 7, .latent = 20};
const int64_t projected = 3 * 16 + 26;  // queries, latent and shared key
}  // namespace

TEST_CASE("latent heads", "[case]") {
  compare_all([](Stage& s) {
    const Shape heads{2, 3, 3, 16}, values{2, 3, 3, 7};
    const Tensor rotary = s.acc("angles", {3, 6});
    const SplitLatentHeads op{.layout = latents,
                              .queries = s.act("projection", {6, projected}),
                              .keys_values = s.act("keys and values", {6, 3 * 17}),
                              .shared_key = s.act("projection", {6, projected}),
                              .rotary = rotary,
                              .q = s.act_out(heads),
                              .k = s.act_out(heads),
                              .v = s.act_out(values)};
    s.run(op);
    s.report("q", op.q);
    s.report("k", op.k);
    s.report("v", op.v);
    const Tensor dprojection = s.act("before", {6, projected});
    const SplitLatentHeadsBackward backward{.layout = latents,
                                            .dq = s.act("dq", heads),
                                            .dk = s.act("dk", heads),
                                            .dv = s.act("dv", values),
                                            .rotary = rotary,
                                            .dqueries = dprojection,
                                            .dkeys_values = s.act_out({6, 3 * 17}),
                                            .dshared_key = dprojection};
    s.run(backward);
    s.report("dprojection", dprojection, {.terms = 3});
    s.report("dkeys_values", backward.dkeys_values);
  });
}

// Rows and queries for the cache; attention to rows of keys that hold their values; and the products around it. Rows of
// 300 elements are wider than a block reads for several heads.
TEST_CASE("latent cache", "[case]") {
  compare_all([](Stage& s) {
    const Tensor projection = s.act("projection", {6, projected}), weight = s.act("weight", {3 * 17, 20});
    const AbsorbKeys absorb{
        .layout = latents, .queries = projection, .weight = weight, .absorbed = s.act_out({6, 3 * 20})};
    s.run(absorb);
    s.report("absorbed", absorb.absorbed, {.terms = 10});
    const LatentCacheHeads op{.layout = latents,
                              .latent = s.act("latent", {6, 20}),
                              .shared_key = projection,
                              .rotary = s.acc("angles", {3, 6}),
                              .queries = projection,
                              .absorbed = s.act("absorbed", {6, 3 * 20}),
                              .row = s.act_out({2, 1, 3, 26}),
                              .q = s.act_out({2, 3, 3, 26})};
    s.run(op);
    s.report("row", op.row);
    s.report("q", op.q);
    const ExpandValues expand{
        .layout = latents, .found = s.act("found", {6, 3 * 20}), .weight = weight, .out = s.act_out({6, 3 * 7})};
    s.run(expand);
    s.report("out", expand.out, {.terms = 20});
  });
  for (const auto& [width, value] : {std::pair<int64_t, int64_t>{26, 20}, {300, 280}}) {
    const int64_t A = width, U = value;
    const HeadLayout row{
        .sequences = 1, .tokens = 2, .heads = 3, .kv_heads = 1, .head_dim = A, .value_dim = U, .score_factor = 1.2};
    compare_all([&](Stage& s) {
      const CacheAttention attention{.layout = row,
                                     .q = s.act("q", {1, 3, 2, A}),
                                     .places = {.sequence = s.ids_of({2}, {1, 0}), .position = s.ids_of({2}, {6, 3})},
                                     .keys = s.act("keys", {2, 1, 9, A}),
                                     .values = {},
                                     .out = s.act_out({2, 3 * U})};
      s.run(attention);
      s.report("out", attention.out, {.terms = 9 + A, .roundings = 1});
    });
  }
}
