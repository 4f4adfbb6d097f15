// What latent attention has around the attention itself.
#include <fmt/core.h>

#include <cmath>

#include "harness.h"
#include "kernels/cpu/block_sizes.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
// As large as this, it shows in every row; the values that models have would be lost in rounding.
constexpr double eps = 0.01;

/// Columns [first, first + n) of rows of W.
struct Columns {
  int64_t rows, width, first, n;
};
const std::vector<Columns> columns = [] {
  std::vector<Columns> all = {{1, 1, 0, 1},    {3, 9, 2, 5},      {5, 64, 0, 32},
                              {2, 88, 24, 64}, {7, 600, 24, 512}, {3, 1600, 5, 1536}};
  for (int64_t rows : around(block_sizes::norm_rows)) all.push_back({rows, 30, 4, 20});
  for (int64_t n : around(block_sizes::norm_columns)) all.push_back({9, n + 8, 8, n});
  return all;
}();

std::string describe(const Columns& c) {
  return fmt::format("{} rows of {}, columns from {} on: {}", c.rows, c.width, c.first, c.n);
}

const std::vector<LatentLayout> layouts = [] {
  std::vector<LatentLayout> all = {
      {.sequences = 1, .tokens = 1, .heads = 1, .nope_dim = 1, .rope_dim = 2, .value_dim = 1, .latent = 1},
      {.sequences = 2, .tokens = 3, .heads = 3, .nope_dim = 12, .rope_dim = 4, .value_dim = 20, .latent = 10},
      {.sequences = 2, .tokens = 5, .heads = 2, .nope_dim = 16, .rope_dim = 8, .value_dim = 16, .latent = 16},
      {.sequences = 1, .tokens = 6, .heads = 4, .nope_dim = 7, .rope_dim = 6, .value_dim = 5, .latent = 33},
      // The widths of DeepSeek-V2.
      {.sequences = 1, .tokens = 3, .heads = 2, .nope_dim = 128, .rope_dim = 64, .value_dim = 128, .latent = 512},
  };
  const auto tokens = [&](int64_t limit) {
    for (int64_t count : around(limit))
      all.push_back(
          {.sequences = 1, .tokens = count, .heads = 2, .nope_dim = 8, .rope_dim = 8, .value_dim = 24, .latent = 16});
  };
  tokens(block_sizes::norm_rows);
  tokens(block_sizes::split_tokens);
  tokens(block_sizes::attention);  // of tokens in AbsorbKeys and ExpandValues
  return all;
}();

std::string describe(const LatentLayout& l) {
  return fmt::format("B {} S {} H {} n {} p {} v {} c {}", l.sequences, l.tokens, l.heads, l.nope_dim, l.rope_dim,
                     l.value_dim, l.latent);
}

Tensor rotary_table(Stage& s, const LatentLayout& l) {
  const int64_t positions = l.tokens + 3, half = l.rope_dim / 2;
  Values table(static_cast<size_t>(positions * l.rope_dim));
  for (int64_t p = 0; p < positions; ++p) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle =
          static_cast<double>(p) * std::pow(100.0, -static_cast<double>(i) / static_cast<double>(half));
      table[static_cast<size_t>(p * l.rope_dim + i)] = 1.1 * std::cos(angle);
      table[static_cast<size_t>(p * l.rope_dim + half + i)] = 1.1 * std::sin(angle);
    }
  }
  return s.acc_of({positions, l.rope_dim}, table);
}

int64_t expanded(const LatentLayout& l) {
  return l.heads * (l.nope_dim + l.value_dim);
}
Shape heads(const LatentLayout& l, int64_t width) {
  return {l.sequences, l.heads, l.tokens, width};
}
/// Columns of x's projection: the queries where they have no latent, then the latent and the shared key.
int64_t projected(const LatentLayout& l) {
  return l.heads * l.key_dim() + l.cached_dim();
}
}  // namespace

TEST_CASE("LatentNorm") {
  for (const Columns& c : columns) {
    INFO(describe(c));
    compare_all([&](Stage& s) {
      const LatentNorm op{.x = s.act("x", {c.rows, c.width}),
                          .first = c.first,
                          .weight = s.acc("weight", {c.n}),
                          .eps = eps,
                          .y = s.act_out({c.rows, c.n}),
                          .rstd = s.acc_out({c.rows})};
      s.run(op);
      s.report("y", op.y, {.terms = c.n});
      s.report("rstd", op.rstd, {.terms = c.n});
    });
  }
}

TEST_CASE("LatentNormBackward: other columns stay as they are") {
  for (const Columns& c : columns) {
    if (c.n == 1) continue;  // the gradient of x/|x| is 0: nothing but rounding
    INFO(describe(c));
    compare_all([&](Stage& s) {
      const Values rstd = reference_values(s, [&](Stage& r) {
        const LatentNorm forward{.x = r.act("x", {c.rows, c.width}),
                                 .first = c.first,
                                 .weight = r.acc("weight", {c.n}),
                                 .eps = eps,
                                 .y = r.act_out({c.rows, c.n}),
                                 .rstd = r.acc_out({c.rows})};
        r.run(forward);
        r.report("rstd", forward.rstd);
      })[0];
      const LatentNormBackward op{.dy = s.acc("dy", {c.rows, c.n}),
                                  .x = s.act("x", {c.rows, c.width}),
                                  .first = c.first,
                                  .weight = s.acc("weight", {c.n}),
                                  .rstd = s.acc_of({c.rows}, rstd),
                                  .dx = s.act("dx before", {c.rows, c.width}),
                                  .dweight = s.acc("dweight before", {c.n})};
      s.run(op);
      s.report("dx", op.dx, {.terms = c.n});
      s.report("dweight", op.dweight, {.terms = c.rows});
    });
  }
}

TEST_CASE("SplitLatentHeads: queries of their own, and in one matrix with the shared key") {
  for (const LatentLayout& l : layouts) {
    for (const bool one_matrix : {false, true}) {
      INFO(describe(l) << (one_matrix ? ", one matrix" : ""));
      compare_all([&](Stage& s) {
        const Tensor projection = s.act("projection", {l.rows(), projected(l)});
        const SplitLatentHeads op{
            .layout = l,
            .queries = one_matrix ? projection : s.act("queries", {l.rows(), l.heads * l.key_dim()}),
            .keys_values = s.act("keys and values", {l.rows(), expanded(l)}),
            .shared_key = projection,
            .rotary = rotary_table(s, l),
            .q = s.act_out(heads(l, l.key_dim())),
            .k = s.act_out(heads(l, l.key_dim())),
            .v = s.act_out(heads(l, l.value_dim))};
        s.run(op);
        s.report("q", op.q);
        s.report("k", op.k);
        s.report("v", op.v);
      });
    }
  }
}

TEST_CASE("SplitLatentHeadsBackward: the latents' columns stay as they are") {
  for (const LatentLayout& l : layouts) {
    for (const bool one_matrix : {false, true}) {
      INFO(describe(l) << (one_matrix ? ", one matrix" : ""));
      compare_all([&](Stage& s) {
        const Tensor dprojection = s.act("before", {l.rows(), projected(l)});
        const SplitLatentHeadsBackward op{
            .layout = l,
            .dq = s.act("dq", heads(l, l.key_dim())),
            .dk = s.act("dk", heads(l, l.key_dim())),
            .dv = s.act("dv", heads(l, l.value_dim)),
            .rotary = rotary_table(s, l),
            .dqueries = one_matrix ? dprojection : s.act("queries before", {l.rows(), l.heads * l.key_dim() + 3}),
            .dkeys_values = s.act_out({l.rows(), expanded(l)}),
            .dshared_key = dprojection};
        s.run(op);
        s.report("dprojection", op.dshared_key, {.terms = l.heads});
        s.report("dqueries", op.dqueries);
        s.report("dkeys_values", op.dkeys_values);
      });
    }
  }
}

TEST_CASE("AbsorbKeys and ExpandValues") {
  for (const LatentLayout& l : layouts) {
    INFO(describe(l));
    compare_all([&](Stage& s) {
      const Tensor weight = s.act("weight", {expanded(l), l.latent});
      const AbsorbKeys absorb{.layout = l,
                              .queries = s.act("projection", {l.rows(), projected(l)}),
                              .weight = weight,
                              .absorbed = s.act_out({l.rows(), l.heads * l.latent})};
      s.run(absorb);
      s.report("absorbed", absorb.absorbed, {.terms = l.nope_dim});
      const ExpandValues expand{.layout = l,
                                .found = s.act("found", {l.rows(), l.heads * l.latent}),
                                .weight = weight,
                                .out = s.act_out({l.rows(), l.heads * l.value_dim})};
      s.run(expand);
      s.report("out", expand.out, {.terms = l.latent});
    });
  }
}

TEST_CASE("LatentCacheHeads: rows alone, and with queries") {
  for (const LatentLayout& l : layouts) {
    for (const bool queries : {false, true}) {
      INFO(describe(l) << (queries ? ", with queries" : ""));
      compare_all([&](Stage& s) {
        const Tensor projection = s.act("projection", {l.rows(), projected(l)});
        LatentCacheHeads op{.layout = l,
                            .latent = s.act("latent", {l.rows(), l.latent}),
                            .shared_key = projection,
                            .rotary = rotary_table(s, l),
                            .row = s.act_out({l.sequences, 1, l.tokens, l.cached_dim()})};
        if (queries) {
          op.queries = projection;
          op.absorbed = s.act("absorbed", {l.rows(), l.heads * l.latent});
          op.q = s.act_out(heads(l, l.cached_dim()));
        }
        s.run(op);
        s.report("row", op.row);
        if (queries) s.report("q", op.q);
      });
    }
  }
}
