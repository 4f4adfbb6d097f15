// Operations on rows and on whole arrays, at small sizes: what must fail when a bug of row_bugs.cpp is planted.
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/rank_sum.h"
#include "kernels/harness.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

TEST_CASE("casts", "[case]") {
  for (int64_t n : {37, 72}) {
    compare_all([&](Stage& s) {
      const Tensor act = s.act_out({n}), back = s.acc_out({n});
      s.run(Cast{.from = s.acc("x", {n}), .to = act});
      s.run(Cast{.from = act, .to = back});
      s.report("act", act, {.roundings = 1});
      s.report("back", back, {.roundings = 1});
    });
  }
}

// A row belongs to a warp in the first two sizes, to a block in the third.
TEST_CASE("norms", "[case]") {
  for (const auto& [T, D] : {std::pair<int64_t, int64_t>{9, 33}, {3, 40}, {3, 257}}) {
    const Shape shape{T, D};
    const int64_t rows = T, width = D;
    compare_all([&](Stage& s) {
      const AddRmsNorm op{.residual = s.acc("residual", shape),
                          .branch = s.acc("branch", shape),
                          .weight = s.acc("w", {width}),
                          .eps = 1e-5,
                          .sum = s.acc_out(shape),
                          .y = s.act_out(shape),
                          .rstd = s.acc_out({rows})};
      s.run(op);
      s.report("sum", op.sum);
      s.report("y", op.y, {.terms = width});
      s.report("rstd", op.rstd, {.terms = width});
      const RmsNormBackward backward{.dy = s.acc("dy", shape),
                                     .x = s.acc("x", shape),
                                     .weight = op.weight,
                                     .rstd = s.acc_of({rows}, Values(static_cast<size_t>(rows), 0.75)),
                                     .write = Write::accumulate,
                                     .dresidual = s.acc("dresidual before", shape),
                                     .dweight = s.acc("dw before", {width})};
      s.run(backward);
      s.report("dresidual", backward.dresidual, {.terms = width});
      s.report("dw", backward.dweight, {.terms = rows});
    });
  }
}

// f32: the gradient takes the place of the logits.
TEST_CASE("losses", "[case]") {
  compare_all([](Stage& s) {
    const Tensor logits = s.acc("logits", {5, 50});
    const CrossEntropy op{.logits = logits,
                          .targets = s.ids_of({5}, {49, 20, -1, 3, 33}),
                          .numbers = s.numbers({{StepNumber::target_share, 0.25}}),
                          .ce_weight = 2,
                          .ce = s.scalar(),
                          .dlogits = s.act_type() == DType::bf16 ? s.act_out({5, 50}) : logits};
    s.run(op);
    s.report("ce", op.ce, {.terms = 50});
    s.report("dlogits", op.dlogits, {.terms = 51});
  });
}

// Token 1 comes 50 times and more, which is a long run of equal ids; the others come a few times each.
TEST_CASE("embedding", "[case]") {
  for (int64_t D : {5, 8}) {
    compare_all([&](Stage& s) {
      Ids tokens;
      for (int32_t t = 0; t < 70; ++t) tokens.push_back(t % 4 != 0 ? 1 : t % 3);
      const Embedding op{.tokens = s.ids_of({70}, tokens), .table = s.act("table", {3, D}), .x = s.acc_out({70, D})};
      s.run(op);
      s.report("x", op.x);
      const EmbeddingBackward backward{
          .tokens = op.tokens, .dx = s.acc("dx", {70, D}), .dtable = s.acc("dtable before", {3, D})};
      s.run(backward);
      s.report("dtable", backward.dtable, {.terms = 70});
    });
  }
}

TEST_CASE("optimizer", "[case]") {
  for (int64_t n : {37, 300}) {
    compare_all([&](Stage& s) {
      const Tensor sum = s.scalar();
      s.run(SumOfSquares{.x = s.acc("x", {n}), .sum = sum});
      s.report("sum", sum);
      // Two updates of different rates: factors that a block has left behind are wrong for the next one.
      AdamW op{.weight = s.acc("w", {n}),
               .gradient = s.acc("g", {n}),
               .m = s.acc("m", {n}, 0.1),
               .v = s.acc_of({n}, Values(static_cast<size_t>(n), 0.01)),
               .beta1 = 0.9,
               .beta2 = 0.95,
               .eps = 1e-8};
      for (double rate : {1e-2, 3e-1}) {
        op.numbers = s.numbers({{StepNumber::learning_rate, rate}, {StepNumber::updates, 2}});
        s.run(op);
        s.report("w", op.weight, {.terms = 4});
        const SumOfUpdates sums{.weight = op.weight,
                                .m = op.m,
                                .v = op.v,
                                .beta1 = op.beta1,
                                .beta2 = op.beta2,
                                .eps = op.eps,
                                .numbers = op.numbers,
                                .squared_update = s.scalar(),
                                .squared_weight = s.scalar()};
        s.run(sums);
        s.report("squared update", sums.squared_update, {.terms = 4});
        s.report("squared weight", sums.squared_weight, {.terms = 4});
      }
    });
  }
}

TEST_CASE("clipping", "[case]") {
  compare_all([](Stage& s) {
    const auto first = [](const Tensor& vector, int64_t n) { return Tensor{vector.data, DType::f64, {n}}; };
    Tensor numbers = s.numbers({{StepNumber::updates, 3}});
    s.run(ClipGradient{.sum_of_squares = first(s.scalar(), 1),
                       .terms = s.numbers({{static_cast<StepNumber>(step_number_count - 1), NAN}}),
                       .max_norm = 0.5,
                       .after = AfterNonfinite::halt,
                       .numbers = numbers});
    s.report("numbers", numbers);
  });
}

TEST_CASE("sums over ranks", "[case]") {
  constexpr int64_t ranks = 3, n = 300;
  for (const Backend& backend : backends()) {
    INFO(backend.name);
    Stage s(*backend.ops, backend.act, backend.act, 1);
    const cudaStream_t stream = static_cast<CudaDevice&>(backend.ops->device()).stream(Stream::compute);
    const Tensor parts = s.act("parts", {ranks * n}), sum = s.acc_out({n});
    gpu::enqueue_rank_sum(parts, sum, stream);
    const Values of_ranks = s.read(parts), total = s.read(sum);
    for (size_t i = 0; i < n; ++i) {
      float expected = 0;  // in the order of the ranks, so to the bit
      for (size_t p = 0; p < ranks; ++p) expected += static_cast<float>(of_ranks[p * n + i]);
      REQUIRE(total[i] == static_cast<double>(expected));
    }
    if (backend.act == DType::bf16) {
      const Tensor rounded = s.act_out({n});
      gpu::enqueue_round(sum, rounded, stream);
      const Values values = s.read(rounded);
      for (size_t i = 0; i < n; ++i) REQUIRE(values[i] == round_to(DType::bf16, total[i]));
    }
    CHECK(s.broken_guard() == "");
    CHECK(faults_of_backend() == "");
  }
}

TEST_CASE("notes of where the GPU is", "[case]") {
  const CudaDeviceOptions options;
  // Not destroyed: an emulated stream must not outlive main().
  static CudaDevice& device = *new CudaDevice(options);
  device.trail()->step(4);
  device.trail()->part("experts (forward)", 2);
  device.trail()->operation("GroupedLinear");
  device.trail()->part("head (forward)", -1);
  device.trail()->operation("Linear");
  device.synchronize();
  CHECK(CudaTrail::where_device_is() == " (step 5, head (forward): Linear)");
  CHECK(faults_of_backend() == "");
}

// The table of angles may hold any numbers: both backends turn by them alike.
TEST_CASE("heads", "[case]") {
  const HeadLayout l{.sequences = 1, .tokens = 5, .heads = 3, .kv_heads = 1, .head_dim = 16, .rotary_dim = 8};
  const int64_t T = l.sequences * l.tokens;
  const Shape fused{T, 5 * 16}, q{1, 3, 5, 16}, kv{1, 1, 5, 16};
  for (QkNorm norm : {QkNorm::head, QkNorm::full}) {
    INFO("norm " << int(norm));
    const bool full = norm == QkNorm::full;
    compare_all([&](Stage& s) {
      const Tensor rotary = s.acc("rotary", {5, 8}), q_weight = s.acc("q weight", {full ? 48 : 16}),
                   k_weight = s.acc("k weight", {16});
      const SplitHeads op{.layout = l,
                          .qkv = s.act("qkv", fused),
                          .rotary = rotary,
                          .norm = norm,
                          .q_weight = q_weight,
                          .k_weight = k_weight,
                          .eps = 1e-5,
                          .q = s.act_out(q),
                          .k = s.act_out(kv),
                          .v = s.act_out(kv),
                          .q_rstd = s.acc_out({T, full ? 1 : 3}),
                          .k_rstd = s.acc_out({T, 1})};
      s.run(op);
      s.report("q", op.q, {.terms = 48});
      s.report("k", op.k, {.terms = 16});
      s.report("v", op.v);
      s.report("q_rstd", op.q_rstd, {.terms = 48});
      SplitHeadsBackward backward{.layout = l, .dq = s.act("dq", q), .dk = s.act("dk", kv), .dv = s.act("dv", kv)};
      backward.rotary = rotary;
      backward.norm = norm;
      backward.qkv = op.qkv;
      backward.q_weight = q_weight;
      backward.k_weight = k_weight;
      backward.q_rstd = s.acc_of(op.q_rstd.shape, Values(static_cast<size_t>(op.q_rstd.elements()), 0.75));
      backward.k_rstd = s.acc_of({T, 1}, Values(static_cast<size_t>(T), 1.25));
      backward.dqkv = s.act_out(fused);
      backward.dq_weight = s.acc("dq weight before", q_weight.shape);
      backward.dk_weight = s.acc("dk weight before", k_weight.shape);
      s.run(backward);
      s.report("dqkv", backward.dqkv, {.terms = 48});
      s.report("dq_weight", backward.dq_weight, {.terms = 3 * T});
      s.report("dk_weight", backward.dk_weight, {.terms = T});
    });
  }
}
