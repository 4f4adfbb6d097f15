// Sharpness, overlap and geometry: sums over tokens against their definitions.
#include <cmath>
#include <numbers>

#include "analysis/geometry.h"
#include "analysis/overlap.h"
#include "analysis/sharpness.h"
#include "core/random.h"
#include "tests/catch.h"

using namespace strand;

TEST_CASE("Sharpness of two tokens, worked out by hand") {
  SharpnessSum sum(4, 2);
  sum.add(std::vector<double>{0.7, 0.1, 0.2, 0.0}, std::vector<double>{0, 0, 0, 0});
  sum.add(std::vector<double>{0.0, 1.0, 0.0, 0.0}, std::vector<double>{1000, 1000, 0, 0});
  const Sharpness s = sum.mean();
  const double h = -(0.7 * std::log(0.7) + 0.1 * std::log(0.1) + 0.2 * std::log(0.2));
  CHECK(s.token_entropy == Approx(h / 2 / std::log(4.0)));
  CHECK(s.effective_experts == Approx((std::exp(h) + 1) / 2));
  CHECK(s.top_1 == Approx(0.85));
  CHECK(s.top_k == Approx((0.9 + 1) / 2));
  CHECK(s.gap == Approx((0.1 + 0) / 2));
  CHECK(s.confident == Approx(0.5));
  const double load = -(0.35 * std::log(0.35) + 0.55 * std::log(0.55) + 0.1 * std::log(0.1));
  CHECK(s.load_entropy == Approx(load / std::log(4.0)));
  CHECK(s.information == Approx(load - h / 2));
  const double bound = -(0.3 * std::log(0.3) + 0.7 * std::log(0.7)) + 0.3 * std::log(3.0);
  CHECK(s.bound == Approx(bound / 2 / std::log(4.0)));
  CHECK(s.bound >= s.token_entropy);
  CHECK(s.logsumexp == Approx((std::log(4.0) + 1000 + std::log(2.0)) / 2));
}

TEST_CASE("A router that gives every expert the same is at its floors, and reaches the bound") {
  SharpnessSum sum(8, 3);
  for (int i = 0; i < 5; ++i) sum.add(std::vector<double>(8, 0.125), std::vector<double>(8, 0.0));
  const Sharpness got = sum.mean(), want = uniform_sharpness(8, 3);
  CHECK(got.token_entropy == Approx(want.token_entropy));
  CHECK(got.load_entropy == Approx(want.load_entropy));
  CHECK(got.information == Approx(want.information).margin(1e-12));
  CHECK(got.effective_experts == Approx(want.effective_experts));
  CHECK(got.top_1 == Approx(want.top_1));
  CHECK(got.top_k == Approx(want.top_k));
  CHECK(got.gap == Approx(want.gap).margin(1e-12));
  CHECK(got.confident == want.confident);
  CHECK(got.bound == Approx(want.bound));
}

TEST_CASE("One expert, and as many used as there are") {
  SharpnessSum one(1, 1), all(2, 2);
  one.add(std::vector<double>{1.0}, std::vector<double>{2.0});
  all.add(std::vector<double>{0.25, 0.75}, std::vector<double>{0.0, 1.0});
  CHECK(one.mean().token_entropy == 0);
  CHECK(one.mean().logsumexp == Approx(2));
  CHECK(all.mean().top_k == Approx(1));
}

TEST_CASE("Overlap of the same, of orthogonal and of opposite vectors") {
  OverlapSum sum(3);
  const std::vector<uint16_t> low = {0, 1}, high = {2, 1};
  for (int i = 0; i < 20; ++i) sum.add(low, std::vector<double>{4, 6, 6, 9});     // 2 and 3 times the same: cos 1
  for (int i = 0; i < 20; ++i) sum.add(high, std::vector<double>{1, 0, 0, 1});    // orthogonal
  for (int i = 0; i < 10; ++i) sum.add(high, std::vector<double>{1, -1, -1, 4});  // cos −1/2
  const Overlap o = sum.mean();
  CHECK(o.mean_squared_cosine == Approx((20 + 0 + 10 * 0.25) / 50));
  CHECK(o.mean_absolute_cosine == Approx((20 + 0 + 10 * 0.5) / 50));
  CHECK(o.histogram[0] == Approx(0.4));
  CHECK(o.histogram[10] == Approx(0.2));
  CHECK(o.histogram[19] == Approx(0.4));
  REQUIRE(o.pairs.size() == 9);
  CHECK(o.pairs[0 * 3 + 1].value() == Approx(1));
  CHECK(o.pairs[1 * 3 + 0].value() == Approx(1));
  CHECK(o.pairs[1 * 3 + 2].value() == Approx(2.5 / 30));
  CHECK_FALSE(o.pairs[0 * 3 + 2].has_value());
  CHECK_FALSE(o.pairs[0].has_value());
}

TEST_CASE("A pair of few tokens is not shown, and a vector that is zero overlaps with nothing") {
  OverlapSum sum(2);
  const std::vector<uint16_t> both = {1, 0};
  for (int i = 0; i < 19; ++i) sum.add(both, std::vector<double>{0, 0, 0, 1});
  CHECK_FALSE(sum.mean().pairs[1].has_value());
  sum.add(both, std::vector<double>{0, 0, 0, 1});
  CHECK(sum.mean().pairs[1].value() == 0);
  CHECK(sum.mean().mean_squared_cosine == 0);
}

TEST_CASE("Random directions overlap as their formulas say") {
  constexpr int64_t width = 50, count = 4000;
  OverlapSum sum(2);
  const std::vector<uint16_t> both = {0, 1};
  for (uint64_t i = 0; i < count; ++i) {
    double aa = 0, ab = 0, bb = 0;
    for (uint64_t j = 0; j < width; ++j) {
      const double a = random_normal(1, i * width + j), b = random_normal(2, i * width + j);
      aa += a * a;
      ab += a * b;
      bb += b * b;
    }
    sum.add(both, std::vector<double>{aa, ab, ab, bb});
  }
  // Relative standard deviations of the means: 1.4 / √4000 = 2.2 % and 0.75 / √4000 = 1.2 %.
  const RandomOverlap want = random_overlap(width);
  CHECK(sum.mean().mean_squared_cosine == Approx(want.mean_squared_cosine).epsilon(0.08));
  CHECK(sum.mean().mean_absolute_cosine == Approx(want.mean_absolute_cosine).epsilon(0.05));
}

TEST_CASE("Cosines of router rows, of inputs and of choices") {
  const std::vector<double> router = {3, 0, 0, 0, 2, 0, -1, 0, 1};  // rows e1, e2 and (−1, 0, 1)
  const RouterCosine r = router_cosine({router, 3});
  const double half = std::numbers::sqrt2 / 2;
  CHECK(r.mean == Approx(half / 3));
  CHECK(r.max == Approx(half));

  const std::vector<double> lower = {1, 0, 0, 0, 2, 0}, upper = {2, 2, 0, 0, 0, 5};
  const InputCosine inputs = summed_input_cosine({lower, 3}, row_norms({lower, 3}), {upper, 3}, row_norms({upper, 3}));
  CHECK(inputs.same_token == Approx(half + 0));
  CHECK(inputs.other_token == Approx(0 + half));  // token 0 with the upper 1, token 1 with the upper 0

  // x = (0, 0, 2): q = (0, 0, 2), cosines 0, 0 and 2 / (2 √2).
  const std::vector<uint16_t> with = {1, 2}, without = {0, 1};
  const std::vector<double> q = {0, 0, 2}, norms = row_norms({router, 3});
  CHECK(choice_cosine(q, 2, norms, with).chosen == Approx(half));
  CHECK(choice_cosine(q, 2, norms, without).chosen == Approx(0));
  CHECK(choice_cosine(q, 2, norms, with).any == Approx(half / 3));
}
