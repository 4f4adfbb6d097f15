// What a resumed run compares before its first step.
#include "tests/catch.h"
#include "train/resume_checks.h"

namespace strand::test {
namespace {

using Catch::Contains;

DataState two_sources() {
  return {.sequence_length = 8, .sources = {{1.0, "97 ids of u16, XXH3 a"}, {3.0, "50 ids of u16, XXH3 b"}}};
}

TEST_CASE("Data is the same while contents, ratios of weights and the sequence length are") {
  const DataState saved = two_sources();
  DataState now = saved;
  CHECK(data_differences(saved, now).empty());
  now.sources[0].weight = 2.0;
  now.sources[1].weight = 6.0;
  CHECK(data_differences(saved, now).empty());
  now.sources[1].weight = 5.0;
  REQUIRE(data_differences(saved, now).size() == 2);
  CHECK(data_differences(saved, now)[0] == "data.train[0]: weight 1 of 4 in all became 2 of 7");
  // 0.1 * (1 + 6) and 1 * (0.1 + 0.6) are not the same number of double precision.
  DataState tenths = saved, ones = saved;
  tenths.sources[0].weight = 0.1;
  tenths.sources[1].weight = 0.6;
  ones.sources[1].weight = 6.0;
  REQUIRE(0.1 * 7.0 != 1.0 * (0.1 + 0.6));
  CHECK(data_differences(tenths, ones).empty());
  CHECK(data_differences(ones, tenths).empty());
  now = saved;
  now.sources[1].fingerprint = "50 ids of u16, XXH3 c";
  REQUIRE(data_differences(saved, now).size() == 1);
  CHECK(data_differences(saved, now)[0] == "data.train[1]: 50 ids of u16, XXH3 b became 50 ids of u16, XXH3 c");
  now = saved;
  std::swap(now.sources[0], now.sources[1]);
  CHECK(data_differences(saved, now).size() == 4);
  now = saved;
  now.sources.pop_back();
  REQUIRE(data_differences(saved, now).size() == 1);
  CHECK(data_differences(saved, now)[0] == "data.train: 2 sources became 1");
  now = saved;
  now.sequence_length = 4;
  REQUIRE(data_differences(saved, now).size() == 1);
  CHECK(data_differences(saved, now)[0] == "data.sequence_length: 8 became 4");
}

TEST_CASE("Other validation data is said, and is no other training data") {
  DataState saved = two_sources();
  saved.validation = {"a", "b"};
  DataState now = saved;
  CHECK(validation_difference(saved, now).empty());
  now.validation[1] = "c";
  CHECK_THAT(validation_difference(saved, now), Contains("data.val[1]: b became c") && !Contains("data.val[0]"));
  CHECK(data_differences(saved, now).empty());
  now.validation.pop_back();
  CHECK_THAT(validation_difference(saved, now), Contains("data.val: 2 sources became 1"));
  now.validation.clear();  // a run without validation, and a checkpoint of before validation data was recorded
  CHECK(validation_difference(saved, now).empty());
  CHECK(validation_difference(now, saved).empty());
}

Config cosine(int64_t steps) {
  Config c;
  c.optimizer.lr = 1e-2;
  c.optimizer.min_lr = 1e-4;
  c.schedule.kind = ScheduleKind::cosine;
  c.train.steps = steps;
  return c;
}

TEST_CASE("More steps after the end of a cosine: the jump is said, from what to what") {
  // The last of 10 steps had min_lr. Step 11 of 21: u = 10/20, so (lr + min_lr) / 2 = 5.05e-3.
  const std::string text = learning_rate_jump(cosine(10), cosine(21), 10);
  CHECK_THAT(text, Contains("step 10 had 0.0001, step 11 has 0.00505"));
}

TEST_CASE("A rate that goes on as planned, or hardly changes, is no jump") {
  CHECK(learning_rate_jump(cosine(10), cosine(10), 5).empty());
  Config constant = cosine(10);
  constant.schedule.kind = ScheduleKind::constant;
  Config longer = constant;
  longer.train.steps = 20;
  CHECK(learning_rate_jump(constant, longer, 10).empty());
  CHECK(learning_rate_jump(cosine(10), cosine(10), 0).empty());
  CHECK(learning_rate_jump(cosine(10), cosine(10), 10).empty());  // nothing is left to train
  // Near the end of a cosine, neighbours differ by more than 1 %, which is no jump.
  CHECK(learning_rate_jump(cosine(10), cosine(10), 8).empty());
  Config higher = cosine(10);
  higher.optimizer.lr = 2e-2;
  CHECK_FALSE(learning_rate_jump(cosine(10), higher, 5).empty());
}

}  // namespace
}  // namespace strand::test
