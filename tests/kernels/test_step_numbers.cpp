// Numbers that change from step to step: what guards the update, and the sample of tokens.
#include <cmath>
#include <limits>

#include "core/random.h"
#include "harness.h"
#include "kernels/host_numbers.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

TEST_CASE("AdamW and RouterBiasUpdate change nothing when the step is not to be applied") {
  compare_all([](Stage& s) {
    const Tensor numbers = s.numbers({{StepNumber::learning_rate, 1}, {StepNumber::apply, 0}});
    AdamW op{.weight = s.acc("w", {37}),
             .weight_act = s.act("w in act", {37}),
             .gradient = s.acc_of({37}, Values(37, NAN)),
             .m = s.acc("m", {37}),
             .v = s.acc_of({37}, Values(37, 0.5)),
             .beta1 = 0.9,
             .beta2 = 0.95,
             .eps = 1e-8,
             .decay = 0.1,
             .numbers = numbers};
    const RouterBiasUpdate bias{
        .step_counts = s.acc_of({3}, {7, 1, 2}), .rate = 0.5, .bias = s.acc("bias", {3}), .numbers = numbers};
    const Values before[] = {s.read(op.weight), s.read(op.weight_act), s.read(op.m), s.read(op.v), s.read(bias.bias)};
    s.run(op);
    s.run(bias);
    const Values after[] = {s.read(op.weight), s.read(op.weight_act), s.read(op.m), s.read(op.v), s.read(bias.bias)};
    for (size_t i = 0; i < std::size(before); ++i) CHECK(before[i] == after[i]);
    s.report("w", op.weight);
  });
}

// Values by hand: √25 = 5.
TEST_CASE("ClipGradient: clipping, non-finite steps, and what halts") {
  constexpr double inf = std::numeric_limits<double>::infinity();
  struct Case {
    double sum, term, max_norm;
    AfterNonfinite after;
    double halted_before;
    double norm, scale, apply, updates, halted;
  };
  const Case cases[] = {
      {25, 1, 1, AfterNonfinite::halt, 0, 5, 0.2, 1, 4, 0},   {25, 1, 0, AfterNonfinite::halt, 0, 5, 1, 1, 4, 0},
      {25, 1, 5, AfterNonfinite::halt, 0, 5, 1, 1, 4, 0},     {25, 1, 6, AfterNonfinite::skip, 0, 5, 1, 1, 4, 0},
      {25, NAN, 1, AfterNonfinite::halt, 0, 5, 0.2, 0, 3, 1}, {25, -inf, 1, AfterNonfinite::skip, 0, 5, 0.2, 0, 3, 0},
      {inf, 1, 0, AfterNonfinite::halt, 0, inf, 1, 0, 3, 1},  {inf, 1, 0, AfterNonfinite::skip, 0, inf, 1, 0, 3, 0},
      {25, 1, 1, AfterNonfinite::halt, 1, 5, 0.2, 0, 3, 1},
  };
  for (const Case& c : cases) {
    INFO("sum " << c.sum << " term " << c.term << " max_norm " << c.max_norm << " halted " << c.halted_before);
    for (const Backend& backend : backends()) {
      Stage s(*backend.ops, backend.act, backend.act, 1);
      const auto f64 = [&](const Values& values) {
        const Tensor t = s.numbers();
        const Tensor part{t.data, DType::f64, {static_cast<int64_t>(values.size())}};
        backend.ops->device().upload(values.data(), part);
        return part;
      };
      const Tensor numbers = s.numbers({{StepNumber::updates, 3}, {StepNumber::halted, c.halted_before}});
      s.run(ClipGradient{.sum_of_squares = f64({c.sum}),
                         .terms = f64({0.5, c.term, 2}),
                         .max_norm = c.max_norm,
                         .after = c.after,
                         .numbers = numbers});
      const Values got = s.read(numbers);
      const auto number = [&](StepNumber which) { return got[static_cast<size_t>(place(which))]; };
      CHECK(number(StepNumber::gradient_norm) == c.norm);
      CHECK(number(StepNumber::gradient_scale) == Approx(c.scale).epsilon(1e-15));
      CHECK(number(StepNumber::apply) == c.apply);
      CHECK(number(StepNumber::updates) == c.updates);
      CHECK(number(StepNumber::halted) == c.halted);
    }
  }
}

TEST_CASE("A token sample is fixed by the token's place in the step, and has the size asked for") {
  const uint64_t key = hash_key(1, "sample");
  Values numbers(step_number_count);
  numbers[static_cast<size_t>(place(StepNumber::sample_key_high))] = static_cast<double>(key >> 32);
  numbers[static_cast<size_t>(place(StepNumber::sample_key_low))] = static_cast<double>(key & 0xffffffffu);
  TokenSample whole{.fraction = 0.3, .numbers = {numbers.data(), DType::f64, {step_number_count}}};
  TokenSample later = whole;
  later.first_token = 1000;
  constexpr int n = 100000;
  int inside = 0;
  for (int64_t t = 0; t < n; ++t) {
    inside += HostSample(whole).contains(t);
    if (t >= 1000) continue;
    REQUIRE(HostSample(whole).contains(t) == (random_uniform(key, static_cast<uint64_t>(t)) < 0.3));
    REQUIRE(HostSample(later).contains(t) == HostSample(whole).contains(1000 + t));
  }
  CHECK(std::abs(inside - 0.3 * n) < 5 * std::sqrt(n * 0.3 * 0.7));
  CHECK(HostSample(TokenSample{}).contains(123));  // fraction 1: every token
}
