// Learning rates, clipping factor and z-scores against numbers worked out by hand.
#include <cmath>
#include <vector>

#include "tests/catch.h"
#include "train/schedule.h"
#include "train/step.h"
#include "train/zscore.h"

namespace strand::test {
namespace {

constexpr int64_t steps = 12;

/// All rates of a run with lr 1, min_lr 0.1 and 4 warm-up steps: u = (i − 3) / 8.
std::vector<double> rates(ScheduleKind kind, int64_t warmup = 4, int64_t decay = 0) {
  OptimizerConfig optimizer;
  optimizer.lr = 1.0;
  optimizer.min_lr = 0.1;
  const ScheduleConfig schedule{.kind = kind, .warmup_steps = warmup, .decay_steps = decay};
  std::vector<double> all;
  for (int64_t i = 0; i < steps; ++i) all.push_back(learning_rate(optimizer, schedule, steps, i));
  return all;
}

void check_equal(const std::vector<double>& got, const std::vector<double>& want) {
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    INFO("step " << i);
    CHECK(got[i] == Approx(want[i]).epsilon(1e-9));
  }
}

TEST_CASE("Warm-up begins above zero and ends at the full rate; then the shapes") {
  check_equal(rates(ScheduleKind::constant), {0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1, 1, 1});
  check_equal(rates(ScheduleKind::linear),
              {0.25, 0.5, 0.75, 1, 0.8875, 0.775, 0.6625, 0.55, 0.4375, 0.325, 0.2125, 0.1});
  check_equal(rates(ScheduleKind::wsd, 4, 4), {0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 0.775, 0.55, 0.325, 0.1});
  // 0.55 + 0.45 cos(πu), with cos of π/8, π/4, 3π/8.
  const double c1 = 0.9238795325112867, c2 = 0.7071067811865476, c3 = 0.3826834323650898;
  check_equal(rates(ScheduleKind::cosine), {0.25, 0.5, 0.75, 1, 0.55 + 0.45 * c1, 0.55 + 0.45 * c2, 0.55 + 0.45 * c3,
                                            0.55, 0.55 - 0.45 * c3, 0.55 - 0.45 * c2, 0.55 - 0.45 * c1, 0.1});
}

TEST_CASE("Without warm-up the first step has the full rate") {
  for (int64_t warmup : {0, 1}) {
    check_equal(rates(ScheduleKind::linear, warmup),
                {1, 1 - 0.9 / 11, 1 - 1.8 / 11, 1 - 2.7 / 11, 1 - 3.6 / 11, 1 - 4.5 / 11, 1 - 5.4 / 11, 1 - 6.3 / 11,
                 1 - 7.2 / 11, 1 - 8.1 / 11, 1 - 9.0 / 11, 0.1});
  }
}

TEST_CASE("The last step has exactly min_lr, to the bit") {
  for (int64_t warmup : {0, 3, 7, 11}) {
    CHECK(rates(ScheduleKind::cosine, warmup).back() == 0.1);
    CHECK(rates(ScheduleKind::linear, warmup).back() == 0.1);
  }
  for (int64_t decay : {1, 3, 7}) CHECK(rates(ScheduleKind::wsd, 4, decay).back() == 0.1);
  CHECK(rates(ScheduleKind::constant).back() == 1.0);
}

TEST_CASE("Z-scores: against the window before, once it is full") {
  ZScore z(4);
  for (double x : {1.0, 2.0, 3.0, 4.0}) CHECK(z.score(x) == 0.0);
  CHECK(z.score(5.0) == Approx(2.5 / std::sqrt(1.25)));  // 1 2 3 4: mean 2.5, variance 5/4
  CHECK(z.score(NAN) == 0.0);                            // left out
  CHECK(z.score(INFINITY) == 0.0);
  CHECK(z.score(3.5) == Approx(0.0).margin(1e-15));             // 2 3 4 5: mean 3.5
  CHECK(z.score(0.0) == Approx(-3.875 / std::sqrt(0.546875)));  // 3 4 5 3.5: mean 3.875, variance 35/64
  ZScore constant(3);
  for (int i = 0; i < 5; ++i) CHECK(constant.score(7.0) == 0.0);
  CHECK(constant.score(8.0) == 0.0);  // no deviation to measure with
  CHECK(constant.score(7.0) == Approx(-(1.0 / 3) / std::sqrt(2.0 / 9)));
}

}  // namespace
}  // namespace strand::test
