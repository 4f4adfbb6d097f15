// Who sends how many rows to whom: worked by hand, and as properties over all ranks of a group.
#include <algorithm>
#include <numeric>
#include <random>

#include "core/error.h"
#include "parallel/row_exchange.h"
#include "tests/catch.h"

namespace strand {
namespace {

using Counts = std::vector<int32_t>;
using Rows = std::vector<int64_t>;

TEST_CASE("Two ranks of two experts each, in one chunk and in two, by hand") {
  // This rank sends, by expert: (2 sampled + 1), (0 + 4) | (3 + 0), (1 + 1); from rank 0 arrive (2 + 1), (0 + 4) and
  // from rank 1 (5 + 0), (1 + 2) for its own two experts.
  const Counts sent{2, 1, 0, 4, 3, 0, 1, 1}, arriving{2, 1, 0, 4, 5, 0, 1, 2};
  SECTION("one chunk") {
    const RowExchange x(sent, arriving, 2, 1);
    CHECK(x.home_rows == 12);
    CHECK(x.packed_home_rows == 6);
    CHECK(x.arrivals == 15);
    REQUIRE(x.chunks.size() == 1);
    const RowChunk& c = x.chunks[0];
    CHECK(c.experts == 2);
    CHECK(c.home_first == Rows{0, 7});
    CHECK(c.home_count == Rows{7, 5});
    CHECK(c.packed_first == Rows{0, 2});
    CHECK(c.packed_count == Rows{2, 4});
    CHECK(c.arrival_first == Rows{0, 7});
    CHECK(c.arrival_count == Rows{7, 8});
    CHECK(c.packed_arrival_first == Rows{0, 2});
    CHECK(c.packed_arrival_count == Rows{2, 6});
    CHECK(c.arrivals == 15);
    CHECK(c.packed_arrivals == 8);
  }
  SECTION("two chunks, each of one expert a rank") {
    const RowExchange x(sent, arriving, 2, 2);
    REQUIRE(x.chunks.size() == 2);
    CHECK(x.chunks[0].home_first == Rows{0, 7});
    CHECK(x.chunks[0].home_count == Rows{3, 3});
    CHECK(x.chunks[1].home_first == Rows{3, 10});
    CHECK(x.chunks[1].home_count == Rows{4, 2});
    CHECK(x.chunks[1].packed_first == Rows{2, 5});
    CHECK(x.chunks[1].packed_count == Rows{0, 1});
    CHECK(x.chunks[0].arrival_first == Rows{0, 3});
    CHECK(x.chunks[0].arrival_count == Rows{3, 5});
    CHECK(x.chunks[1].arrival_count == Rows{4, 3});
    CHECK(x.chunks[0].packed_arrivals == 7);
    CHECK(x.chunks[1].packed_arrivals == 1);
  }
}

/// counts[rank][expert][sampled or not]
std::vector<Counts> random_counts(int ranks, int experts, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<Counts> counts(static_cast<size_t>(ranks));
  for (Counts& c : counts)
    for (int i = 0; i < 2 * experts; ++i) c.push_back(random() % 3 == 0 ? 0 : static_cast<int32_t>(random() % 7));
  return counts;
}

Counts arriving_at(const std::vector<Counts>& sent, int rank, int experts) {
  const auto local = static_cast<size_t>(experts) / sent.size();
  Counts arriving;
  for (const Counts& from : sent)
    for (size_t i = 2 * local * static_cast<size_t>(rank); i < 2 * local * static_cast<size_t>(rank + 1); ++i)
      arriving.push_back(from[i]);
  return arriving;
}

TEST_CASE("What one rank sends is what the other expects; chunks cover every row once") {
  // Among them numbers of experts whose remainder is more than one chunk's share: 5 in 3 chunks are 1, 2 and 2.
  const int ranks = GENERATE(2, 3, 4), experts = ranks * GENERATE(1, 3, 4, 5, 7, 11);
  const int chunks = GENERATE(1, 2, 3, 5, 64);
  const std::vector<Counts> sent =
      random_counts(ranks, experts, static_cast<unsigned>(experts * 1000 + ranks * 100 + chunks));
  std::vector<RowExchange> exchange;
  for (int r = 0; r < ranks; ++r) exchange.emplace_back(sent[size_t(r)], arriving_at(sent, r, experts), ranks, chunks);
  for (int r = 0; r < ranks; ++r) {
    const RowExchange& mine = exchange[size_t(r)];
    CHECK(mine.chunks.size() == static_cast<size_t>(std::min(chunks, experts / ranks)));
    std::vector<int> covered(static_cast<size_t>(mine.home_rows)), packed(static_cast<size_t>(mine.packed_home_rows));
    int64_t arrivals = 0, next_expert = 0;
    for (size_t c = 0; c < mine.chunks.size(); ++c) {
      const RowChunk& chunk = mine.chunks[c];
      CHECK(chunk.first_expert == next_expert);
      next_expert += chunk.experts;
      arrivals += chunk.arrivals;
      for (int p = 0; p < ranks; ++p) {
        const auto i = static_cast<size_t>(p);
        const RowChunk& theirs = exchange[i].chunks[c];
        CHECK(chunk.home_count[i] == theirs.arrival_count[static_cast<size_t>(r)]);
        CHECK(chunk.packed_count[i] == theirs.packed_arrival_count[static_cast<size_t>(r)]);
        for (int64_t row = 0; row < chunk.home_count[i]; ++row)
          ++covered[static_cast<size_t>(chunk.home_first[i] + row)];
        for (int64_t row = 0; row < chunk.packed_count[i]; ++row)
          ++packed[static_cast<size_t>(chunk.packed_first[i] + row)];
      }
    }
    CHECK(arrivals == mine.arrivals);
    CHECK(next_expert == experts / ranks);
    CHECK(covered == std::vector<int>(covered.size(), 1));
    CHECK(packed == std::vector<int>(packed.size(), 1));
  }
}

TEST_CASE("Even counts are as even as they can be and lose no row") {
  const Counts counts = even_counts(10, 4, 0.5);
  CHECK(counts == Counts{1, 1, 2, 1, 1, 1, 2, 1});
  const Counts all = even_counts(7, 3, 1.0);
  CHECK(std::accumulate(all.begin(), all.end(), 0) == 7);
  CHECK((all[1] == 0 && all[3] == 0 && all[5] == 0));
}

TEST_CASE("Counts that do not fit the group are refused") {
  const Counts four(8, 1), six(12, 1);
  CHECK_THROWS_AS(RowExchange(four, six, 2, 1), Error);
  CHECK_THROWS_AS(RowExchange(six, six, 4, 1), Error);
}

}  // namespace
}  // namespace strand
