// Heads split off the projection, and causal attention.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "harness.h"
#include "kernels/cpu/block_sizes.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
// As large as this, it shows in every row; the values that models have would be lost in rounding.
constexpr double eps = 0.01;
const std::vector<HeadLayout> layouts = [] {
  std::vector<HeadLayout> all = {
      {.sequences = 1, .tokens = 1, .heads = 1, .kv_heads = 1, .head_dim = 1, .rotary_dim = 0},
      {.sequences = 2, .tokens = 1, .heads = 2, .kv_heads = 1, .head_dim = 16, .rotary_dim = 16},
      {.sequences = 3, .tokens = 5, .heads = 6, .kv_heads = 2, .head_dim = 7, .rotary_dim = 6},
      {.sequences = 2, .tokens = 70, .heads = 4, .kv_heads = 4, .head_dim = 16, .rotary_dim = 8},
      {.sequences = 1, .tokens = 64, .heads = 2, .kv_heads = 2, .head_dim = 64, .rotary_dim = 64},
      {.sequences = 2, .tokens = 200, .heads = 3, .kv_heads = 1, .head_dim = 20, .rotary_dim = 10},
      {.sequences = 1, .tokens = 129, .heads = 1, .kv_heads = 1, .head_dim = 33, .rotary_dim = 2},
      // Heads of the widths that GPU kernels have tiles for, and of widths between these; sequences of more than one
      // block of queries.
      {.sequences = 1, .tokens = 133, .heads = 2, .kv_heads = 1, .head_dim = 32, .rotary_dim = 32},
      {.sequences = 1, .tokens = 70, .heads = 4, .kv_heads = 2, .head_dim = 96, .rotary_dim = 96},
      {.sequences = 2, .tokens = 130, .heads = 2, .kv_heads = 1, .head_dim = 128, .rotary_dim = 64},
      {.sequences = 1, .tokens = 65, .heads = 2, .kv_heads = 2, .head_dim = 192, .rotary_dim = 64},
      {.sequences = 1, .tokens = 34, .heads = 2, .kv_heads = 1, .head_dim = 256, .rotary_dim = 64},
      {.sequences = 1, .tokens = 33, .heads = 1, .kv_heads = 1, .head_dim = 250, .rotary_dim = 2},
  };
  const auto tokens_of_one_head = [&](int64_t limit) {
    for (int64_t tokens : around(limit)) {
      all.push_back({.sequences = 1, .tokens = tokens, .heads = 2, .kv_heads = 1, .head_dim = 5, .rotary_dim = 4});
    }
  };
  tokens_of_one_head(block_sizes::attention);
  tokens_of_one_head(block_sizes::norm_rows);
  tokens_of_one_head(block_sizes::split_tokens);
  // The backward pass cuts heads into parts where there are few of them for its threads: numbers about that limit.
  for (int64_t heads : around(block_sizes::whole_heads_per_thread)) {
    all.push_back({.sequences = 1, .tokens = 66, .heads = 2 * heads, .kv_heads = heads, .head_dim = 3});
  }
  // A norm over all heads, about the number of columns that are summed at a time.
  for (int64_t heads : around(block_sizes::norm_columns / 8)) {
    all.push_back({.sequences = 1, .tokens = 35, .heads = heads, .kv_heads = heads, .head_dim = 8, .rotary_dim = 8});
  }
  return all;
}();

/// The same, and heads whose values are narrower or wider than their keys, with a factor on the scores.
const std::vector<HeadLayout> attention_layouts = [] {
  std::vector<HeadLayout> all = layouts;
  const auto add = [&](int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t value_dim) {
    all.push_back({.sequences = 2,
                   .tokens = tokens,
                   .heads = heads,
                   .kv_heads = kv_heads,
                   .head_dim = head_dim,
                   .value_dim = value_dim,
                   .score_factor = 1.59});
  };
  add(1, 2, 1, 5, 3);
  add(70, 4, 2, 12, 20);
  add(70, 2, 2, 40, 24);
  add(65, 1, 1, 192, 128);  // the widths of DeepSeek-V2
  add(34, 2, 1, 64, 40);
  add(130, 1, 1, 33, 130);
  add(33, 1, 1, 24, 256);
  return all;
}();

std::string describe(const HeadLayout& l) {
  return fmt::format("B {} S {} H {} G {} A {} R {} U {} f {}", l.sequences, l.tokens, l.heads, l.kv_heads, l.head_dim,
                     l.rotary_dim, l.value_width(), l.score_factor);
}

/// cos and sin of the angles of each position, for more positions than the sequence has.
Tensor rotary_table(Stage& s, const HeadLayout& l) {
  if (l.rotary_dim == 0) return {};
  const int64_t positions = l.tokens + 3, half = l.rotary_dim / 2;
  Values table(static_cast<size_t>(positions * l.rotary_dim));
  for (int64_t p = 0; p < positions; ++p) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle =
          static_cast<double>(p) * std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(l.rotary_dim));
      table[static_cast<size_t>(p * l.rotary_dim + i)] = std::cos(angle);
      table[static_cast<size_t>(p * l.rotary_dim + half + i)] = std::sin(angle);
    }
  }
  return s.acc_of({positions, l.rotary_dim}, table);
}

Shape fused(const HeadLayout& l) {
  return {l.sequences * l.tokens, (l.heads + 2 * l.kv_heads) * l.head_dim};
}
Shape q_shape(const HeadLayout& l) {
  return {l.sequences, l.heads, l.tokens, l.head_dim};
}
Shape kv_shape(const HeadLayout& l) {
  return {l.sequences, l.kv_heads, l.tokens, l.head_dim};
}
Shape value_shape(const HeadLayout& l) {
  return {l.sequences, l.kv_heads, l.tokens, l.value_width()};
}
Shape rows(const HeadLayout& l) {
  return {l.sequences * l.tokens, l.heads * l.value_width()};
}
Shape statistics(const HeadLayout& l) {
  return {l.sequences, l.heads, l.tokens};
}

int64_t norm_width(const HeadLayout& l, QkNorm norm, int64_t heads) {
  return norm == QkNorm::full ? heads * l.head_dim : l.head_dim;
}
Shape rstd_shape(const HeadLayout& l, QkNorm norm, int64_t heads) {
  return {l.sequences * l.tokens, norm == QkNorm::full ? 1 : heads};
}

SplitHeads split_heads(Stage& s, const HeadLayout& l, QkNorm norm) {
  SplitHeads op{.layout = l, .qkv = s.act("qkv", fused(l)), .rotary = rotary_table(s, l), .norm = norm, .eps = eps};
  if (norm != QkNorm::none) {
    op.q_weight = s.acc("q weight", {norm_width(l, norm, l.heads)});
    op.k_weight = s.acc("k weight", {norm_width(l, norm, l.kv_heads)});
    op.q_rstd = s.acc_out(rstd_shape(l, norm, l.heads));
    op.k_rstd = s.acc_out(rstd_shape(l, norm, l.kv_heads));
  }
  op.q = s.act_out(q_shape(l));
  op.k = s.act_out(kv_shape(l));
  op.v = s.act_out(kv_shape(l));
  s.run(op);
  return op;
}
}  // namespace

TEST_CASE("SplitHeads: each norm, partial rotation, grouped heads") {
  for (const HeadLayout& l : layouts) {
    for (QkNorm norm : {QkNorm::none, QkNorm::head, QkNorm::full}) {
      INFO(describe(l) << " norm " << int(norm));
      compare_all([&](Stage& s) {
        const SplitHeads op = split_heads(s, l, norm);
        const int64_t terms = norm_width(l, norm, l.heads);
        s.report("q", op.q, {.terms = terms});
        s.report("k", op.k, {.terms = terms});
        s.report("v", op.v);
        if (norm == QkNorm::none) return;
        s.report("q_rstd", op.q_rstd, {.terms = terms});
        s.report("k_rstd", op.k_rstd, {.terms = terms});
      });
    }
  }
}

TEST_CASE("SplitHeadsBackward: each norm, partial rotation, grouped heads") {
  for (const HeadLayout& l : layouts) {
    for (QkNorm norm : {QkNorm::none, QkNorm::head, QkNorm::full}) {
      if (norm != QkNorm::none && l.head_dim == 1) continue;  // the gradient of x/|x| is 0: nothing but rounding
      INFO(describe(l) << " norm " << int(norm));
      compare_all([&](Stage& s) {
        SplitHeadsBackward op{.layout = l,
                              .dq = s.act("dq", q_shape(l)),
                              .dk = s.act("dk", kv_shape(l)),
                              .dv = s.act("dv", kv_shape(l)),
                              .rotary = rotary_table(s, l),
                              .norm = norm};
        if (norm != QkNorm::none) {
          const std::vector<Values> rstd = reference_values(s, [&](Stage& r) {
            const SplitHeads forward = split_heads(r, l, norm);
            r.report("q", forward.q_rstd);
            r.report("k", forward.k_rstd);
          });
          op.qkv = s.act("qkv", fused(l));
          op.q_weight = s.acc("q weight", {norm_width(l, norm, l.heads)});
          op.k_weight = s.acc("k weight", {norm_width(l, norm, l.kv_heads)});
          op.q_rstd = s.acc_of(rstd_shape(l, norm, l.heads), rstd[0]);
          op.k_rstd = s.acc_of(rstd_shape(l, norm, l.kv_heads), rstd[1]);
          op.dq_weight = s.acc("dq weight before", op.q_weight.shape);
          op.dk_weight = s.acc("dk weight before", op.k_weight.shape);
        }
        op.dqkv = s.act_out(fused(l));
        s.run(op);
        s.report("dqkv", op.dqkv, {.terms = norm_width(l, norm, l.heads)});
        if (norm == QkNorm::none) return;
        s.report("dq_weight", op.dq_weight, {.terms = l.sequences * l.tokens * l.heads});
        s.report("dk_weight", op.dk_weight, {.terms = l.sequences * l.tokens * l.kv_heads});
      });
    }
  }
}

// Probabilities may meet V and dO as bf16, as on tensor cores: one rounding in forward; in backward P and dS are
// rounded, and dS is a difference of two numbers of its own size.
TEST_CASE("Attention: blocks shorter than, equal to and longer than the sequence") {
  for (const HeadLayout& l : attention_layouts) {
    for (double scale : {1.0, 6.0}) {  // 6: scores of ±100, where a softmax without its maximum overflows
      INFO(describe(l) << " scale " << scale);
      compare_all([&](Stage& s) {
        Attention op{.layout = l,
                     .q = s.act("q", q_shape(l), scale),
                     .k = s.act("k", kv_shape(l), scale),
                     .v = s.act("v", value_shape(l)),
                     .out = s.act_out(rows(l)),
                     .lse = s.acc_out(statistics(l))};
        s.run(op);
        // A score of size |x| carries an error of |x| 2⁻²⁴, which exp makes a relative error of the probability.
        const auto terms =
            static_cast<int64_t>(scale * scale * scale * scale) * (l.tokens + std::max(l.head_dim, l.value_width()));
        s.report("out", op.out, {.terms = terms, .roundings = 1});
        s.report("lse", op.lse, {.terms = l.tokens + l.head_dim});
      });
    }
  }
}

TEST_CASE("AttentionBackward") {
  for (const HeadLayout& l : attention_layouts) {
    INFO(describe(l));
    compare_all([&](Stage& s) {
      const std::vector<Values> forward = reference_values(s, [&](Stage& r) {
        const Attention op{.layout = l,
                           .q = r.act("q", q_shape(l)),
                           .k = r.act("k", kv_shape(l)),
                           .v = r.act("v", value_shape(l)),
                           .out = r.act_out(rows(l)),
                           .lse = r.acc_out(statistics(l))};
        r.run(op);
        r.report("out", op.out);
        r.report("lse", op.lse);
      });
      AttentionBackward op{.layout = l,
                           .q = s.act("q", q_shape(l)),
                           .k = s.act("k", kv_shape(l)),
                           .v = s.act("v", value_shape(l)),
                           .out = s.act_of(rows(l), forward[0]),
                           .lse = s.acc_of(statistics(l), forward[1]),
                           .dout = s.act("dout", rows(l)),
                           .delta = s.acc_out(statistics(l)),
                           .dq = s.act_out(q_shape(l)),
                           .dk = s.act_out(kv_shape(l)),
                           .dv = s.act_out(value_shape(l))};
      s.run(op);
      const Tolerance tolerance{.terms = (l.tokens + std::max(l.head_dim, l.value_width())) * (l.heads / l.kv_heads),
                                .roundings = 2};
      s.report("dv", op.dv, tolerance, Bits::same_on_as_many_threads);
      if (l.tokens == 1)
        return;  // the probability of one key is 1 whatever q and k are: dq and dk are nothing but rounding
      s.report("dq", op.dq, tolerance);
      s.report("dk", op.dk, tolerance, Bits::same_on_as_many_threads);
    });
  }
}

TEST_CASE("an error about a gradient of attention names the gradient") {
  double memory[64] = {};
  const auto tensor = [&](const Shape& shape) { return Tensor{memory, DType::f64, shape}; };
  const HeadLayout layout{.sequences = 1, .tokens = 2, .heads = 2, .kv_heads = 1, .head_dim = 2};
  const Tensor q = tensor({1, 2, 2, 2}), k = tensor({1, 1, 2, 2}), wrong = tensor({1, 2, 2, 3}), rows = tensor({2, 4});
  SplitHeadsBackward split{.layout = layout, .dq = q, .dk = k, .dv = k, .dqkv = tensor({2, 8})};
  CHECK_NOTHROW(split.check());
  split.dq = wrong;
  CHECK_THROWS_WITH(split.check(), Catch::StartsWith("SplitHeadsBackward: dq is"));
  AttentionBackward attention{.layout = layout,
                              .q = q,
                              .k = k,
                              .v = k,
                              .out = rows,
                              .lse = tensor({1, 2, 2}),
                              .dout = rows,
                              .delta = tensor({1, 2, 2}),
                              .dq = q,
                              .dk = k,
                              .dv = k};
  CHECK_NOTHROW(attention.check());
  attention.dv = wrong;
  CHECK_THROWS_WITH(attention.check(), Catch::StartsWith("AttentionBackward: dv is"));
  attention.dv = k;
  attention.delta = tensor({1, 2});
  CHECK_THROWS_WITH(attention.check(), Catch::StartsWith("AttentionBackward: delta is"));
}
