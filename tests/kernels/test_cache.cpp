// Attention over a prefix cache.
#include <fmt/core.h>

#include <cmath>
#include <functional>
#include <numeric>

#include "harness.h"
#include "kernels/cpu/block_sizes.h"
#include "kernels/plan/plan_ops.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
/// Tokens in a batch of B x S, and the sequences and positions they belong to in a cache of N sequences of C.
struct Case {
  HeadLayout layout;
  int64_t cached, positions;
  Ids sequence, position;
};
const std::vector<Case> cases = [] {
  std::vector<Case> all = {
      // One key, whose probability is 1.
      {{.sequences = 1, .tokens = 1, .heads = 1, .kv_heads = 1, .head_dim = 1}, 1, 1, {0}, {0}},
      // A new token of several sequences, in any order and at any position. At position 16 a token sees 17 keys, which
      // are
      // one vector and one more.
      {{.sequences = 1, .tokens = 4, .heads = 6, .kv_heads = 2, .head_dim = 7}, 5, 70, {3, 0, 4, 1}, {69, 0, 16, 15}},
      {{.sequences = 1, .tokens = 2, .heads = 4, .kv_heads = 4, .head_dim = 16}, 2, 200, {1, 0}, {199, 130}},
      {{.sequences = 1, .tokens = 1, .heads = 8, .kv_heads = 1, .head_dim = 64}, 2, 300, {1}, {256}},
      {{.sequences = 1, .tokens = 1, .heads = 2, .kv_heads = 2, .head_dim = 100}, 1, 65, {0}, {64}},
      // One token and a long cache, whose positions a GPU cuts into parts: once all parts have keys, once only some.
      {{.sequences = 1, .tokens = 1, .heads = 2, .kv_heads = 2, .head_dim = 200}, 1, 260, {0}, {259}},
      {{.sequences = 1, .tokens = 1, .heads = 3, .kv_heads = 1, .head_dim = 8}, 2, 700, {1}, {2}},
      // Several new tokens of one sequence, each of which sees those before it; then a batch of two sequences.
      {{.sequences = 1, .tokens = 3, .heads = 2, .kv_heads = 1, .head_dim = 20}, 2, 9, {1, 1, 1}, {4, 5, 6}},
      {{.sequences = 2, .tokens = 2, .heads = 2, .kv_heads = 1, .head_dim = 33}, 3, 8, {2, 2, 0, 0}, {0, 1, 6, 7}},
  };
  // Values of another width than keys, and scores with a factor.
  all.push_back(
      {{.sequences = 1, .tokens = 2, .heads = 4, .kv_heads = 2, .head_dim = 20, .value_dim = 36, .score_factor = 1.3},
       2,
       70,
       {1, 0},
       {66, 3}});
  all.push_back(
      {{.sequences = 1, .tokens = 1, .heads = 3, .kv_heads = 1, .head_dim = 70, .value_dim = 9}, 1, 260, {0}, {259}});
  const HeadLayout one{.sequences = 1, .tokens = 1, .heads = 2, .kv_heads = 1, .head_dim = 5};
  for (int64_t keys : around(block_sizes::cached_keys)) {
    all.push_back({one, 2, keys + 3, {1}, {static_cast<int32_t>(keys) - 1}});
  }
  // A prompt: the tokens of one sequence, each after the one before it.
  for (int64_t tokens : around(block_sizes::tokens)) {
    Case prompt{one, 2, tokens + 1, Ids(static_cast<size_t>(tokens), 1), Ids(static_cast<size_t>(tokens))};
    prompt.layout.tokens = tokens;
    std::iota(prompt.position.begin(), prompt.position.end(), 0);
    all.push_back(prompt);
  }
  return all;
}();

std::string describe(const Case& c) {
  const HeadLayout& l = c.layout;
  return fmt::format("B {} S {} H {} G {} A {}, N {} C {}", l.sequences, l.tokens, l.heads, l.kv_heads, l.head_dim,
                     c.cached, c.positions);
}

Shape new_heads(const Case& c, int64_t heads, int64_t width) {
  return {c.layout.sequences, heads, c.layout.tokens, width};
}
Shape cache_shape(const Case& c, int64_t width) {
  return {c.cached, c.layout.kv_heads, c.positions, width};
}
CachePlaces places(Stage& s, const Case& c) {
  const int64_t t = c.layout.sequences * c.layout.tokens;
  return {s.ids_of({t}, c.sequence), s.ids_of({t}, c.position)};
}

/// A cache holds NaN where no token was appended yet, so that a test fails when somebody reads it.
Tensor only_filled(Stage& s, const Case& c, const std::string& name, int64_t width) {
  const Shape shape = cache_shape(c, width);
  Values values = reference_values(s, [&](Stage& r) { r.report(name, r.act(name, shape)); })[0];
  const int64_t row = width, sequence = c.layout.kv_heads * c.positions * row;
  for (int64_t n = 0; n < c.cached; ++n) {
    int64_t filled = 0;
    for (size_t t = 0; t < c.sequence.size(); ++t)
      if (c.sequence[t] == n) filled = std::max<int64_t>(filled, c.position[t] + 1);
    for (int64_t g = 0; g < c.layout.kv_heads; ++g)
      for (int64_t i = filled * row; i < c.positions * row; ++i)
        values[static_cast<size_t>(n * sequence + g * c.positions * row + i)] = std::nan("");
  }
  return s.act_of(shape, values);
}
}  // namespace

TEST_CASE("CacheAppend: every token goes to its place, and nothing else changes") {
  for (const Case& c : cases) {
    INFO(describe(c));
    compare_all([&](Stage& s) {
      const HeadLayout& l = c.layout;
      const CacheAppend op{.layout = l,
                           .k = s.act("k", new_heads(c, l.kv_heads, l.head_dim)),
                           .v = s.act("v", new_heads(c, l.kv_heads, l.value_width())),
                           .places = places(s, c),
                           .keys = s.act("keys", cache_shape(c, l.head_dim)),
                           .values = s.act("values", cache_shape(c, l.value_width()))};
      s.run(op);
      s.report("keys", op.keys);
      s.report("values", op.values);
    });
  }
}

TEST_CASE("CacheAttention: sequences in any order, at any length") {
  for (const Case& c : cases) {
    for (double scale : {1.0, 6.0}) {  // 6: scores of ±100, where a softmax without its maximum overflows
      INFO(describe(c) << " scale " << scale);
      compare_all([&](Stage& s) {
        const HeadLayout& l = c.layout;
        const CacheAttention op{.layout = l,
                                .q = s.act("q", new_heads(c, l.heads, l.head_dim), scale * scale),
                                .places = places(s, c),
                                .keys = only_filled(s, c, "keys", l.head_dim),
                                .values = only_filled(s, c, "values", l.value_width()),
                                .out = s.act_out({l.sequences * l.tokens, l.heads * l.value_width()})};
        s.run(op);
        for (double x : s.read(op.out)) REQUIRE_FALSE(std::isnan(x));
        // As for Attention: an error of a score is a relative error of its probability.
        const auto terms = static_cast<int64_t>(scale * scale * scale * scale) * (c.positions + l.head_dim);
        s.report("out", op.out, {.terms = terms, .roundings = 1});
      });
    }
  }
}

// The cache of latent attention: rows that are keys as a whole, and values in their first elements. All heads read the
// same row.
TEST_CASE("a cache without values: they are the beginnings of the keys") {
  struct Widths {
    int64_t head_dim, value_dim, heads, positions;
  };
  for (const Widths& w : {Widths{20, 16, 3, 9}, Widths{24, 24, 2, 70}, Widths{33, 7, 5, 200}, Widths{136, 128, 2, 70},
                          Widths{576, 512, 3, 40}, Widths{580, 511, 1, 300}}) {
    const int32_t last = static_cast<int32_t>(w.positions) - 1;
    const Case c{{.sequences = 1,
                  .tokens = 3,
                  .heads = w.heads,
                  .kv_heads = 1,
                  .head_dim = w.head_dim,
                  .value_dim = w.value_dim,
                  .score_factor = 1.7},
                 2,
                 w.positions,
                 {1, 0, 1},
                 {last - 1, 2, last}};
    INFO(describe(c) << " U " << w.value_dim);
    compare_all([&](Stage& s) {
      const HeadLayout& l = c.layout;
      const CacheAppend append{.layout = l,
                               .k = s.act("k", new_heads(c, 1, l.head_dim)),
                               .v = {},
                               .places = places(s, c),
                               .keys = only_filled(s, c, "keys", l.head_dim),
                               .values = {}};
      s.run(append);
      const CacheAttention op{.layout = l,
                              .q = s.act("q", new_heads(c, l.heads, l.head_dim)),
                              .places = append.places,
                              .keys = append.keys,
                              .values = {},
                              .out = s.act_out({3, l.heads * w.value_dim})};
      s.run(op);
      for (double x : s.read(op.out)) REQUIRE_FALSE(std::isnan(x));
      s.report("out", op.out, {.terms = w.positions + l.head_dim, .roundings = 1});
    });
  }
}

// Token by token, the cache gives what Attention computes for the whole sequence from the same inputs.
TEST_CASE("a sequence appended and attended token by token is causal attention") {
  const HeadLayout whole{.sequences = 1, .tokens = 37, .heads = 4, .kv_heads = 2, .head_dim = 24};
  HeadLayout one = whole;
  one.tokens = 1;
  const int64_t S = whole.tokens, A = whole.head_dim;
  for (const Backend& backend : backends()) {
    INFO(backend.name);
    Stage s(*backend.ops, backend.act, backend.act, 1);
    const Tensor q = s.act("q", {1, 4, S, A}), k = s.act("k", {1, 2, S, A}), v = s.act("v", {1, 2, S, A});
    const Tensor expected = s.act_out({S, 4 * A});
    s.run(Attention{.layout = whole, .q = q, .k = k, .v = v, .out = expected, .lse = s.acc_out({1, 4, S})});
    const Values want = s.read(expected);
    const Tensor keys = s.act_out({1, 2, S, A}), values = s.act_out({1, 2, S, A});  // NaN
    const auto token = [&](const Tensor& heads, int64_t t) {
      Values row;
      const Values all = s.read(heads);
      for (int64_t h = 0; h < heads.dim(1); ++h)
        for (int64_t a = 0; a < A; ++a) row.push_back(all[static_cast<size_t>((h * S + t) * A + a)]);
      return s.act_of({1, heads.dim(1), 1, A}, row);
    };
    for (int64_t t = 0; t < S; ++t) {
      const CachePlaces at{s.ids_of({1}, {0}), s.ids_of({1}, {static_cast<int32_t>(t)})};
      s.run(
          CacheAppend{.layout = one, .k = token(k, t), .v = token(v, t), .places = at, .keys = keys, .values = values});
      const Tensor out = s.act_out({1, 4 * A});
      s.run(CacheAttention{.layout = one, .q = token(q, t), .places = at, .keys = keys, .values = values, .out = out});
      const Values got = s.read(out);
      // Outputs are averages of numbers around 1. bf16: Attention may round its probabilities, and both the result.
      const double tolerance = backend.act == DType::bf16 ? 3 * 0x1p-7 : 1e-5;
      for (int64_t i = 0; i < 4 * A; ++i)
        REQUIRE(std::abs(got[static_cast<size_t>(i)] - want[static_cast<size_t>(t * 4 * A + i)]) <= tolerance);
    }
  }
}

TEST_CASE("a cache of another shape or type is refused") {
  PlanDevice device({.row_alignment = 1});
  PlanOps ops(device);
  const auto tensor = [&](DType type, const Shape& shape) {
    return Tensor{ops.device().allocate(MemoryKind::device, static_cast<size_t>(shape.elements()) * size_of(type)),
                  type, shape};
  };
  const HeadLayout l{.sequences = 1, .tokens = 3, .heads = 4, .kv_heads = 2, .head_dim = 8};
  const CacheAttention good{.layout = l,
                            .q = tensor(DType::f32, {1, 4, 3, 8}),
                            .places = {tensor(DType::i32, {3}), tensor(DType::i32, {3})},
                            .keys = tensor(DType::f32, {5, 2, 10, 8}),
                            .values = tensor(DType::f32, {5, 2, 10, 8}),
                            .out = tensor(DType::f32, {3, 32})};
  CHECK_NOTHROW(ops(good));
  // 2 products of 2·10·8 FLOPs for each of 3 tokens and 4 heads; q, out and the cache once.
  CHECK(ops.counts().flops[static_cast<int>(OpFamily::attention)] == 2 * 2 * 10 * 8 * 3 * 4);
  CHECK(ops.counts().bytes[static_cast<int>(OpFamily::attention)] == 4 * (2 * 96 + 2 * 800));
  const auto refused = [&](const std::function<void(CacheAttention&)>& change) {
    CacheAttention bad = good;
    change(bad);
    CHECK_THROWS_WITH(ops(bad), Catch::StartsWith("CacheAttention: "));
  };
  refused([&](CacheAttention& op) { op.places.position = tensor(DType::i32, {4}); });
  refused([&](CacheAttention& op) { op.places.sequence = {}; });
  refused([&](CacheAttention& op) { op.keys = tensor(DType::f32, {5, 4, 10, 8}); });
  refused([&](CacheAttention& op) { op.values = tensor(DType::f32, {5, 2, 11, 8}); });
  refused([&](CacheAttention& op) { op.values = tensor(DType::bf16, {5, 2, 10, 8}); });
  refused([&](CacheAttention& op) {  // the value would be longer than the key that it is in
    op.layout.value_dim = 9;
    op.values = {};
    op.out = tensor(DType::f32, {3, 36});
  });
  CacheAppend append{.layout = l,
                     .k = tensor(DType::f32, {1, 2, 3, 8}),
                     .v = tensor(DType::f32, {1, 2, 3, 8}),
                     .places = good.places,
                     .keys = good.keys,
                     .values = good.values};
  CHECK_NOTHROW(ops(append));
  append.v = tensor(DType::f32, {1, 4, 3, 8});
  CHECK_THROWS_WITH(ops(append), Catch::StartsWith("CacheAppend: v"));
  append.v = {};
  CHECK_THROWS_WITH(ops(append), Catch::StartsWith("CacheAppend: values are stored exactly when"));
}
