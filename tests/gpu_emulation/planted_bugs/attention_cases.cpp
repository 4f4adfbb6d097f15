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
