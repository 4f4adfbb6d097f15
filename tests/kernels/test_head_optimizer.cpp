// Cross-entropy, embedding, AdamW.
#include <tuple>

#include "harness.h"
#include "kernels/cpu/block_sizes.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

TEST_CASE("CrossEntropy: ignored targets, evaluation without a gradient, in place, large logits") {
  enum class Gradient { none, apart, in_place };
  std::vector<std::tuple<int64_t, int64_t>> chunks = {{1, 1}, {5, 7}, {33, 50}, {16, 1003}};
  for (int64_t rows : around(block_sizes::tokens)) chunks.push_back({rows, 7});
  for (int64_t words : around(block_sizes::exponentials)) chunks.push_back({2, words});
  for (const auto& [rows, words] : chunks) {
    const int64_t C = rows, V = words;
    for (Gradient gradient : {Gradient::none, Gradient::apart, Gradient::in_place}) {
      for (double scale : {1.0, 50.0}) {
        INFO("C " << C << " V " << V << " gradient " << int(gradient) << " scale " << scale);
        compare_all([&](Stage& s) {
          Ids targets;
          for (int64_t t = 0; t < C; ++t)
            targets.push_back(static_cast<int32_t>(t % 4 == 2 ? -1 - t : (t * 31 + V - 1) % V));
          CrossEntropy op{.logits = s.acc("logits", {C, V}, scale),
                          .targets = s.ids_of({C}, targets),
                          .numbers = s.numbers({{StepNumber::target_share, 1.0 / static_cast<double>(C)}}),
                          .ce_weight = 2.0,
                          .ce = s.scalar()};
          const bool types_agree = s.act_type() != DType::bf16;
          if (gradient != Gradient::none) {
            const bool in_place = gradient == Gradient::in_place && types_agree;
            op.dlogits = in_place ? op.logits : s.act_out({C, V});
          }
          s.run(op);
          s.report("ce", op.ce, {.terms = V});
          // exp turns the rounding of a logit of size `scale` into a relative error of the probability.
          const auto terms = static_cast<int64_t>(scale * scale) + V;
          if (op.dlogits) s.report("dlogits", op.dlogits, {.terms = terms});
        });
      }
    }
  }
}

TEST_CASE("CrossEntropy: all targets ignored leave the sum alone and give zero gradients") {
  compare_all([](Stage& s) {
    const CrossEntropy op{.logits = s.acc("logits", {3, 17}),
                          .targets = s.ids_of({3}, {-1, -100, -1}),
                          .numbers = s.numbers({{StepNumber::target_share, 1}}),
                          .ce_weight = 1,
                          .ce = s.scalar(),
                          .dlogits = s.act_out({3, 17})};
    s.run(op);
    s.report("ce", op.ce);
    s.report("dlogits", op.dlogits);
  });
}

TEST_CASE("Embedding and its backward: tokens that repeat") {
  std::vector<std::tuple<int64_t, int64_t, int64_t>> tables = {{1, 1, 1}, {6, 3, 7}, {70, 11, 33}, {300, 1000, 16}};
  for (int64_t tokens : around(block_sizes::tokens)) tables.push_back({tokens, 9, 3});
  for (int64_t columns : around(block_sizes::embedding_columns)) tables.push_back({7, 3, columns});
  // Ids of three digits of eight bits, and more tokens than the CUDA backend sorts at a time.
  tables.push_back({65600, 70000, 1});
  for (const auto& [tokens_, words, width] : tables) {
    const int64_t T = tokens_, V = words, D = width;
    INFO("T " << T << " V " << V << " D " << D);
    compare_all([&](Stage& s) {
      Ids tokens;
      for (int64_t t = 0; t < T; ++t) tokens.push_back(static_cast<int32_t>((t * t + 3) % V));
      const Embedding op{.tokens = s.ids_of({T}, tokens), .table = s.act("table", {V, D}), .x = s.acc_out({T, D})};
      s.run(op);
      s.report("x", op.x);
      const EmbeddingBackward backward{
          .tokens = op.tokens, .dx = s.acc("dx", {T, D}), .dtable = s.acc("dtable before", {V, D})};
      s.run(backward);
      s.report("dtable", backward.dtable, {.terms = T});
    });
  }
}

TEST_CASE("SumOfSquares") {
  std::vector<int64_t> counts = {1, 17, 1000, 100003};
  for (int64_t n : around(block_sizes::optimizer_elements)) counts.push_back(n);
  for (int64_t n : counts) {
    INFO("n " << n);
    compare_all([&](Stage& s) {
      const Tensor sum = s.scalar();
      s.run(SumOfSquares{.x = s.acc("x", {n}), .sum = sum});
      s.report("sum", sum);  // sums are f64, so the error does not grow with n
    });
  }
}

TEST_CASE("SumOfUpdates: what AdamW took from the weights, summed from weights before and after") {
  std::vector<int64_t> counts = {1, 37, 4099};
  for (int64_t n : around(block_sizes::optimizer_elements)) counts.push_back(n);
  for (int64_t n : counts) {
    for (const double apply : {1.0, 0.0}) {
      for (double decay : {0.0, 0.5}) {
        if (n > 5000 && decay == 0) continue;
        INFO("n " << n << " apply " << apply << " decay " << decay);
        compare_all([&](Stage& s) {
          Values v = s.read(s.acc("v", {n}, 0.1));
          for (double& x : v) x = x * x;
          const AdamW update{
              .weight = s.acc("w", {n}),
              .gradient = s.acc("g", {n}),
              .m = s.acc("m", {n}, 0.1),
              .v = s.acc_of({n}, v),
              .beta1 = 0.9,
              .beta2 = 0.95,
              .eps = 1e-8,
              .decay = decay,
              .numbers =
                  s.numbers({{StepNumber::learning_rate, 0.1}, {StepNumber::updates, 3}, {StepNumber::apply, apply}})};
          const Values before = s.read(update.weight);
          s.run(update);
          const Values after = s.read(update.weight);
          const SumOfUpdates op{.weight = update.weight,
                                .m = update.m,
                                .v = update.v,
                                .beta1 = 0.9,
                                .beta2 = 0.95,
                                .eps = 1e-8,
                                .decay = decay,
                                .numbers = update.numbers,
                                .squared_update = s.scalar(),
                                .squared_weight = s.scalar()};
          s.run(op);
          double moved = 0.5, size = 0.5;  // what the scalars hold before
          for (size_t i = 0; i < before.size(); ++i) {
            moved += (before[i] - after[i]) * (before[i] - after[i]);
            size += after[i] * after[i];
          }
          // A difference of two weights of order 1 in fp32 has an error of 1e-7, at updates of order 0.1.
          CHECK(s.read(op.squared_update)[0] == Approx(moved).epsilon(1e-5));
          CHECK(s.read(op.squared_weight)[0] == Approx(size).epsilon(1e-9));
          s.report("squared update", op.squared_update);
          s.report("squared weight", op.squared_weight);
        });
      }
    }
  }
}

TEST_CASE("AdamW: first and later updates, with and without decay and the copy in act") {
  std::vector<int64_t> counts = {1, 37, 4099};
  for (int64_t n : around(block_sizes::updated_elements)) counts.push_back(n);
  for (int64_t n : around(block_sizes::optimizer_elements)) counts.push_back(n);
  for (int64_t n : counts) {
    for (int64_t updates : {1, 2, 1000}) {
      for (double decay : {0.0, 0.1}) {
        if (n > 5000 && (updates != 2 || decay == 0)) continue;
        for (bool copy : {false, true}) {
          INFO("n " << n << " updates " << updates << " decay " << decay << " copy " << copy);
          compare_all([&](Stage& s) {
            Values v = s.read(s.acc("v", {n}, 0.1));
            for (double& x : v) x = x * x;
            AdamW op{.weight = s.acc("w", {n}),
                     .gradient = s.acc("g", {n}),
                     .m = s.acc("m", {n}, 0.1),
                     .v = s.acc_of({n}, v),
                     .beta1 = 0.9,
                     .beta2 = 0.95,
                     .eps = 1e-8,
                     .decay = decay,
                     .numbers = s.numbers({{StepNumber::learning_rate, 1e-2},
                                           {StepNumber::gradient_scale, 0.5},
                                           {StepNumber::updates, static_cast<double>(updates)}})};
            if (copy) op.weight_act = s.act_out({n});
            s.run(op);
            s.report("w", op.weight);
            s.report("m", op.m);
            s.report("v", op.v);
            if (copy) s.report("w in act", op.weight_act);
          });
        }
      }
    }
  }
}
