// Vocabulary and domains, on routings for which the answers are known.
#include <cmath>

#include "analysis/domains.h"
#include "analysis/vocabulary.h"
#include "tests/analysis/traces.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
/// 20 times id 7 (15 to expert 0, 5 to 2), 10 times id 3 (all to 1), 9 times id 5, which is too rare.
struct Words {
  std::vector<int32_t> ids;
  std::vector<uint16_t> top_1;
  Words() {
    const auto add = [&](int32_t id, uint16_t expert, int count) {
      ids.insert(ids.end(), static_cast<size_t>(count), id);
      top_1.insert(top_1.end(), static_cast<size_t>(count), expert);
    };
    add(7, 2, 5);
    add(5, 3, 9);
    add(3, 1, 10);
    add(7, 0, 15);
  }
  Trace trace() const {
    return make_trace(39, 1, 4, 39, [&](int64_t t, int64_t) -> Experts { return {top_1[static_cast<size_t>(t)]}; });
  }
};
}  // namespace

TEST_CASE("Ids that occur ten times count, in order, with their places") {
  const Words words;
  const IdOccurrences ids(words.ids);
  REQUIRE(ids.frequent().size() == 2);
  CHECK(ids.frequent()[0].id == 3);
  CHECK(ids.frequent()[0].places.front() == 14);
  CHECK(ids.frequent()[1].id == 7);
  CHECK(ids.frequent()[1].places.size() == 20);
  CHECK(ids.frequent()[1].places[5] == 24);
}

TEST_CASE("Vocabulary specialization: the mean over ids, and over occurrences") {
  const Words words;
  const Trace trace = words.trace();
  const auto s = vocabulary_specialization(trace.layer(0), IdOccurrences(words.ids));
  CHECK(s.mean == Approx((0.75 + 1) / 2));
  CHECK(s.weighted == Approx(25.0 / 30));
  const auto none = vocabulary_specialization(trace.layer(0), IdOccurrences(std::vector<int32_t>{}));
  CHECK(none.mean == 0);
}

TEST_CASE("Context independence is 1 where the id tells the expert, 0 where it tells nothing") {
  std::vector<int32_t> ids;
  for (int32_t t = 0; t < 80; ++t) ids.push_back(t % 4);
  const IdOccurrences occurrences(ids);
  const Trace told =
      make_trace(80, 1, 4, 80, [](int64_t t, int64_t) -> Experts { return {static_cast<uint16_t>(3 - t % 4)}; });
  CHECK(context_independence(told.layer(0), occurrences) == Approx(1));
  const Trace untold =
      make_trace(80, 1, 4, 80, [](int64_t t, int64_t) -> Experts { return {static_cast<uint16_t>(t / 4 % 4)}; });
  CHECK(context_independence(untold.layer(0), occurrences) == Approx(0).margin(1e-12));
  const Trace constant = make_trace(80, 1, 4, 80, [](int64_t, int64_t) -> Experts { return {2}; });
  CHECK(context_independence(constant.layer(0), occurrences) == 0);
}

TEST_CASE("Token lists: main expert, share and runner-up, the largest share first") {
  const Words words;
  const auto lists = token_lists(words.trace().layer(0), IdOccurrences(words.ids), 8);
  REQUIRE(lists.size() == 4);
  REQUIRE(lists[0].size() == 1);
  CHECK(lists[0][0].id == 7);
  CHECK(lists[0][0].count == 20);
  CHECK(lists[0][0].share == Approx(0.75));
  CHECK(lists[0][0].runner_up == 2);
  CHECK(lists[0][0].runner_up_share == Approx(0.25));
  REQUIRE(lists[1].size() == 1);
  CHECK(lists[1][0].id == 3);
  CHECK(lists[1][0].runner_up_share == 0);
  CHECK(lists[2].empty());
  std::vector<int32_t> ids;  // three ids of one expert with shares 0.9, 1 and 1, the last with more occurrences
  std::vector<uint16_t> top_1;
  for (int i = 0; i < 10; ++i) ids.push_back(1), top_1.push_back(i == 0 ? 1 : 0);
  for (int i = 0; i < 10; ++i) ids.push_back(2), top_1.push_back(0);
  for (int i = 0; i < 12; ++i) ids.push_back(3), top_1.push_back(0);
  const Trace trace =
      make_trace(32, 1, 2, 32, [&](int64_t t, int64_t) -> Experts { return {top_1[static_cast<size_t>(t)]}; });
  const auto two = token_lists(trace.layer(0), IdOccurrences(ids), 2);
  REQUIRE(two[0].size() == 2);
  CHECK(two[0][0].id == 3);
  CHECK(two[0][1].id == 2);
}

TEST_CASE("Experts that belong to domains carry all information about them") {
  // Sequences of 5; the first 8 are of domain a, which uses experts 0 and 1, the other 8 of domain b with 2 and 3.
  Trace trace = make_trace(80, 1, 4, 5, [](int64_t t, int64_t) -> Experts {
    return t < 40 ? Experts{0, 1} : Experts{3, 2};
  });
  trace.domains = {{"a", 8}, {"b", 8}};
  const CountMatrix counts = domain_counts(trace.layer(0), 5, domain_of_sequence(trace.domains), 2);
  CHECK(counts.values == std::vector<int64_t>{40, 40, 0, 0, 0, 0, 40, 40});
  const DomainInformation information = domain_information(trace.layer(0), 5, trace.domains);
  CHECK(information.real == Approx(std::log(2.0)));
  CHECK(information.shuffled < 0.4);
  CHECK(information.shuffled > 0);
}

TEST_CASE("Domains of unequal size, and routing that does not know them") {
  Trace trace = make_trace(60, 1, 3, 3, [](int64_t t, int64_t) -> Experts { return {static_cast<uint16_t>(t % 3)}; });
  trace.domains = {{"a", 4}, {"b", 16}};
  const CountMatrix counts = domain_counts(trace.layer(0), 3, domain_of_sequence(trace.domains), 2);
  CHECK(counts.values == std::vector<int64_t>{4, 4, 4, 16, 16, 16});
  CHECK(domain_information(trace.layer(0), 3, trace.domains).real == Approx(0).margin(1e-12));
}
