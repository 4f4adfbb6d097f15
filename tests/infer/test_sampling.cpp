// The choice of the next token, in cases worked out by hand. Logits are logarithms, so that likelihoods are round.
#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "core/random.h"
#include "infer/sampling.h"
#include "tests/catch.h"

using namespace strand;

namespace {
using Logits = std::vector<double>;
using History = std::vector<int32_t>;

/// Logits of tokens with these likelihoods (any common factor).
Logits logits_of(const std::vector<double>& likelihoods) {
  Logits logits;
  for (double x : likelihoods) logits.push_back(std::log(x));
  return logits;
}

constexpr int draws = 4000;
/// How often each id is chosen.
std::map<int32_t, int> histogram(const Logits& logits, const SamplingOptions& options, const History& history = {}) {
  std::map<int32_t, int> counts;
  for (int i = 0; i < draws; ++i) ++counts[sample_token(logits, options, history, i)];
  return counts;
}

/// The ids that come up are those of `shares`, each about as often as it says. The standard deviation of a share of
/// 4000 draws is at most 0.0079; 0.035 is more than four of them, and the draws are always the same.
void check_shares(const std::map<int32_t, int>& counts, const std::map<int32_t, double>& shares) {
  CHECK(counts.size() == shares.size());
  for (const auto& [id, share] : shares) {
    INFO("id " << id);
    REQUIRE(counts.count(id) == 1);
    CHECK(counts.at(id) / double(draws) == Approx(share).margin(0.035));
  }
}
}  // namespace

TEST_CASE("temperature 0 takes the largest logit, the lower id of equals") {
  const SamplingOptions greedy{.temperature = 0};
  CHECK(sample_token({1, 3, 2}, greedy, {}, 0) == 1);
  CHECK(sample_token({1, 3, 3}, greedy, {}, 5) == 1);
  CHECK(sample_token({-4, -7, -4}, greedy, {}, 0) == 0);
}

TEST_CASE("without filters every id is drawn by its likelihood") {
  check_shares(histogram(logits_of({5, 3, 2}), {}), {{0, 0.5}, {1, 0.3}, {2, 0.2}});
}

TEST_CASE("temperature: likelihoods to the power of 1/T") {
  check_shares(histogram(logits_of({4, 1}), {.temperature = 2}), {{0, 2.0 / 3}, {1, 1.0 / 3}});
  check_shares(histogram(logits_of({2, 1}), {.temperature = 0.5}), {{0, 0.8}, {1, 0.2}});
}

TEST_CASE("a very low temperature is greedy, and overflows nothing") {
  check_shares(histogram({1000, 999, -1000}, {.temperature = 1e-3}), {{0, 1.0}});
}

TEST_CASE("top-k keeps the k most likely, of equals the lower ids") {
  check_shares(histogram(logits_of({1, 3, 6}), {.top_k = 2}), {{1, 1.0 / 3}, {2, 2.0 / 3}});
  check_shares(histogram(logits_of({1, 1, 1, 1}), {.top_k = 2}), {{0, 0.5}, {1, 0.5}});
  check_shares(histogram(logits_of({1, 3, 6}), {.top_k = 1}), {{2, 1.0}});
  check_shares(histogram(logits_of({1, 3, 6}), {.top_k = 9}), {{0, 0.1}, {1, 0.3}, {2, 0.6}});
}

TEST_CASE("top-p keeps the fewest that reach p, at least one") {
  const Logits logits = logits_of({1, 2, 3, 4});  // 0.1, 0.2, 0.3, 0.4
  check_shares(histogram(logits, {.top_p = 0.05}), {{3, 1.0}});
  check_shares(histogram(logits, {.top_p = 0.39}), {{3, 1.0}});
  check_shares(histogram(logits, {.top_p = 0.41}), {{2, 3.0 / 7}, {3, 4.0 / 7}});
  check_shares(histogram(logits, {.top_p = 0.71}), {{1, 2.0 / 9}, {2, 3.0 / 9}, {3, 4.0 / 9}});
  check_shares(histogram(logits, {.top_p = 1}), {{0, 0.1}, {1, 0.2}, {2, 0.3}, {3, 0.4}});
}

TEST_CASE("top-p is a share of what top-k left") {
  // 0.3 and 0.4 are left, shares 3/7 and 4/7: 0.5 is reached by the first alone; of all, it would take both.
  check_shares(histogram(logits_of({1, 2, 3, 4}), {.top_k = 2, .top_p = 0.5}), {{3, 1.0}});
}

TEST_CASE("min-p keeps what is at least that share as likely as the most likely") {
  const Logits logits = logits_of({1, 2, 3, 4});
  check_shares(histogram(logits, {.min_p = 0.6}), {{2, 3.0 / 7}, {3, 4.0 / 7}});
  check_shares(histogram(logits, {.min_p = 0.8}), {{3, 1.0}});
  check_shares(histogram(logits, {.min_p = 0.3}), {{1, 2.0 / 9}, {2, 3.0 / 9}, {3, 4.0 / 9}});
  SECTION("after temperature: 1/2 to the power of 2 is below 0.3") {
    check_shares(histogram(logits_of({2, 1}), {.temperature = 0.5, .min_p = 0.3}), {{0, 1.0}});
  }
}

TEST_CASE("repetition penalty: what was there before is divided above 0 and multiplied below") {
  const SamplingOptions greedy{.temperature = 0, .repetition_penalty = 2};
  CHECK(sample_token({4, 3, -1}, greedy, {}, 0) == 0);
  CHECK(sample_token({4, 3, -1}, greedy, History{0}, 0) == 1);        // 2, 3, −1
  CHECK(sample_token({4, 3, -1}, greedy, History{0, 0, 0}, 0) == 1);  // once, however often it was there
  CHECK(sample_token({4, 3, -1}, greedy, History{0, 1}, 0) == 0);     // 2, 1.5, −1
  CHECK(sample_token({-1, -1.5}, greedy, History{0}, 0) == 1);        // −2, −1.5
  SECTION("before temperature: logits 2 ln 4 and 0 become ln 4 and 0, then 2 and 1 at T = 2") {
    const SamplingOptions options{.temperature = 2, .repetition_penalty = 2};
    check_shares(histogram({2 * std::log(4), 0}, options, History{0}), {{0, 2.0 / 3}, {1, 1.0 / 3}});
  }
}

TEST_CASE("a draw is a function of seed and index: the running sum of likelihoods passes the uniform number") {
  const std::vector<double> likelihoods = {1, 2, 3, 4};
  for (uint64_t seed : {1, 2, 77}) {
    for (int64_t index : {0, 1, 2, 1000}) {
      const double u = random_uniform(hash_key(seed, "sampling"), static_cast<uint64_t>(index));
      int32_t expected = 0;
      for (double sum = 1; sum <= u * 10; sum += likelihoods[static_cast<size_t>(expected)]) ++expected;
      CHECK(sample_token(logits_of(likelihoods), {.seed = seed}, {}, index) == expected);
    }
  }
  const Logits even(1000, 0.0);
  CHECK(sample_token(even, {.seed = 1}, {}, 0) != sample_token(even, {.seed = 1}, {}, 1));
  CHECK(sample_token(even, {.seed = 1}, {}, 0) != sample_token(even, {.seed = 2}, {}, 0));
}

TEST_CASE("logits that are no numbers are refused, and so are options out of range") {
  CHECK_THROWS_WITH(sample_token({0, std::nan("")}, {}, {}, 0), Catch::Contains("not finite"));
  CHECK_THROWS_WITH(sample_token({0, std::numeric_limits<double>::infinity()}, {.temperature = 0}, {}, 0),
                    Catch::Contains("not finite"));
  CHECK_NOTHROW(check(SamplingOptions{}));
  CHECK_THROWS_WITH(check(SamplingOptions{.temperature = -1}), Catch::Contains("temperature"));
  CHECK_THROWS_WITH(check(SamplingOptions{.top_k = -1}), Catch::Contains("top-k"));
  CHECK_THROWS_WITH(check(SamplingOptions{.top_p = 0}), Catch::Contains("top-p"));
  CHECK_THROWS_WITH(check(SamplingOptions{.top_p = std::nan("")}), Catch::Contains("top-p"));
  CHECK_THROWS_WITH(check(SamplingOptions{.min_p = 1.5}), Catch::Contains("min-p"));
  CHECK_THROWS_WITH(check(SamplingOptions{.repetition_penalty = 0}), Catch::Contains("repetition penalty"));
}
