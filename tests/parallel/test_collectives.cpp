// Every collective against what each rank knows all others to have contributed. Sums are compared bit by bit with a
// loop in rank order: that is what communicator.h promises, and it makes them equal on all ranks and in every run.
#include <bit>

#include "core/random.h"
#include "parallel/agreement.h"
#include "parallel/mpi_main.h"
#include "tests/catch.h"

namespace strand {
namespace {
using test::processes;

std::unique_ptr<ProcessGrid> make_grid(int64_t expert_parallel = 1) {
  return processes().grid(expert_parallel, test::watchdog_seconds);
}

/// Element i of what rank p contributes to collective `salt`: of any magnitude, so that the order of a sum shows.
template <typename T>
T contribution(int p, int64_t i, int salt = 0) {
  const uint64_t bits = random_bits(static_cast<uint64_t>(salt * 1000 + p), static_cast<uint64_t>(i));
  const double mantissa = static_cast<double>(bits >> 40) / (1 << 23) - 1;
  return static_cast<T>(std::ldexp(mantissa, static_cast<int>(bits % 20) - 10));
}

template <typename T>
std::vector<T> contributions(int p, int64_t n, int salt = 0) {
  std::vector<T> x(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) x[static_cast<size_t>(i)] = contribution<T>(p, i, salt);
  return x;
}

template <typename T>
T rounded(T value, DType travel) {
  return travel == DType::bf16 ? static_cast<T>(static_cast<float>(bf16(static_cast<float>(value)))) : value;
}

template <typename T>
std::vector<T> sums(int ranks, int64_t n, int salt = 0, DType travel = dtype_of<T>()) {
  std::vector<T> sum(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    T& s = sum[static_cast<size_t>(i)] = rounded(contribution<T>(0, i, salt), travel);
    for (int p = 1; p < ranks; ++p) s += rounded(contribution<T>(p, i, salt), travel);
  }
  return sum;
}

template <typename T>
Tensor tensor(std::vector<T>& x) {
  return {x.data(), dtype_of<T>(), {static_cast<int64_t>(x.size())}};
}

template <typename T>
void check_all_reduce(Communicator& c, int64_t n) {
  INFO("f" << 8 * sizeof(T) << " [" << n << "]");
  std::vector<T> x = contributions<T>(c.rank(), n);
  c.all_reduce_sum(Traffic::statistics, tensor(x));
  CHECK(x == sums<T>(c.size(), n));
}

TEST_CASE("All-reduce: small and large, of sizes that do not divide") {
  const auto grid = make_grid();
  for (const int64_t n : {1, 2, 3, 1000, 16384, 16385, 100'003, 300'000}) check_all_reduce<float>(grid->world(), n);
  for (const int64_t n : {1, 8192, 8193, 50'001}) check_all_reduce<double>(grid->world(), n);
  for (const int64_t part : {Communicator::slice_elements - 1, Communicator::slice_elements,
                             Communicator::slice_elements + 1, Communicator::slice_elements * 5 / 2})
    check_all_reduce<float>(grid->world(), part * grid->world().size());
}

template <typename T>
void check_reduce_scatter(Communicator& c, int64_t part, DType travel) {
  INFO("part " << part << " of f" << 8 * sizeof(T) << " travels as " << to_string(travel));
  const int64_t n = part * c.size();
  std::vector<T> x = contributions<T>(c.rank(), n);
  Communicator::Work work = c.begin_reduce_scatter_sum(Traffic::gradients, tensor(x), travel);
  c.wait(work);
  const std::vector<T> expected = sums<T>(c.size(), n, 0, travel);
  const auto begin = static_cast<size_t>(part * c.rank()), end = begin + static_cast<size_t>(part);
  CHECK(std::vector<T>(x.begin() + static_cast<int64_t>(begin), x.begin() + static_cast<int64_t>(end)) ==
        std::vector<T>(expected.begin() + static_cast<int64_t>(begin), expected.begin() + static_cast<int64_t>(end)));
}

TEST_CASE("Reduce-scatter: the own part is the sum, in the type of the tensor or of parts rounded to bf16") {
  const auto grid = make_grid();
  for (const int64_t part : {1, 7, 5001, 140'000}) {
    check_reduce_scatter<float>(grid->world(), part, DType::f32);
    check_reduce_scatter<float>(grid->world(), part, DType::bf16);
    check_reduce_scatter<double>(grid->world(), part, DType::f64);
  }
  check_reduce_scatter<double>(grid->world(), 100, DType::bf16);
  for (const int64_t limit : {Communicator::block_elements, Communicator::slice_elements}) {
    for (const int64_t part : {limit - 1, limit, limit + 1, limit * 5 / 2}) {
      check_reduce_scatter<float>(grid->world(), part, DType::f32);
      check_reduce_scatter<float>(grid->world(), part, DType::bf16);
      check_reduce_scatter<double>(grid->world(), part, DType::bf16);
    }
  }
}

template <typename T>
void check_all_gather(Communicator& c, int64_t part) {
  const auto element = [](int p, int64_t i) {
    return static_cast<T>(random_bits(static_cast<uint64_t>(p), static_cast<uint64_t>(i)) & 0x7f);
  };
  std::vector<T> x(static_cast<size_t>(part * c.size())), expected = x;
  for (int p = 0; p < c.size(); ++p) {
    for (int64_t i = 0; i < part; ++i) expected[static_cast<size_t>(p * part + i)] = element(p, i);
  }
  for (int64_t i = 0; i < part; ++i) x[static_cast<size_t>(c.rank() * part + i)] = element(c.rank(), i);
  Communicator::Work work = c.begin_all_gather(Traffic::weights, tensor(x));
  c.wait(work);
  CHECK(x == expected);
}

TEST_CASE("All-gather: every rank holds every part, of any type") {
  const auto grid = make_grid();
  for (const int64_t part : {1, 13, 100'001}) {
    check_all_gather<float>(grid->world(), part);
    check_all_gather<double>(grid->world(), part);
    check_all_gather<uint16_t>(grid->world(), part);
    check_all_gather<uint8_t>(grid->world(), part);
    check_all_gather<int64_t>(grid->world(), part);
  }
}

// Rows from rank p to rank q; the last rank neither sends nor receives any, and another pair has none.
int64_t rows_between(int ranks, int p, int q) {
  if (p == ranks - 1 || q == ranks - 1) return 0;
  return ranks == 2 ? 3 : (p * 5 + q * 3 + 1) % 4;
}

/// A buffer of rows with gaps between those of different ranks.
struct Rows {
  static constexpr int64_t width = 5;
  std::vector<uint16_t> elements;
  RankRows rows;

  explicit Rows(const std::vector<int64_t>& counts) {
    int64_t at = 1;
    for (const int64_t count : counts) {
      rows.first.push_back(count > 0 ? at : 0);
      rows.count.push_back(count);
      if (count > 0) at += count + 1;
    }
    elements.assign(static_cast<size_t>((at > 1 ? at : 0) * width), 0xffff);
    rows.tensor = {elements.empty() ? nullptr : elements.data(), DType::bf16, {at > 1 ? at : 0, width}};
  }

  uint16_t& at(int rank, int64_t row, int64_t column) {
    return elements[static_cast<size_t>((rows.first[static_cast<size_t>(rank)] + row) * width + column)];
  }
};

uint16_t element(int from, int to, int64_t row, int64_t column) {
  return static_cast<uint16_t>(from * 4096 + to * 256 + row * 16 + column);
}

TEST_CASE("All-to-all: rows arrive in their sender's place; nothing else is touched; ranks may have no rows") {
  const auto grid = make_grid();
  Communicator& c = grid->world();
  std::vector<int64_t> leaving, arriving;
  for (int q = 0; q < c.size(); ++q) {
    leaving.push_back(rows_between(c.size(), c.rank(), q));
    arriving.push_back(rows_between(c.size(), q, c.rank()));
  }
  Rows send(leaving), receive(arriving), expected(arriving);
  for (int q = 0; q < c.size(); ++q) {
    for (int64_t i = 0; i < leaving[static_cast<size_t>(q)] * Rows::width; ++i)
      send.at(q, i / Rows::width, i % Rows::width) = element(c.rank(), q, i / Rows::width, i % Rows::width);
    for (int64_t i = 0; i < arriving[static_cast<size_t>(q)] * Rows::width; ++i)
      expected.at(q, i / Rows::width, i % Rows::width) = element(q, c.rank(), i / Rows::width, i % Rows::width);
  }
  c.all_to_all(Traffic::dispatch, OwnRows::sent, send.rows, receive.rows);
  CHECK(receive.elements == expected.elements);
}

TEST_CASE("An all-to-all in which nobody has rows") {
  const auto grid = make_grid();
  const std::vector<int64_t> none(static_cast<size_t>(processes().size()), 0);
  const RankRows empty{{nullptr, DType::f32, {0, 8}}, none, none};
  grid->world().all_to_all(Traffic::dispatch, OwnRows::sent, empty, empty);
  CHECK(grid->world().traffic()[Traffic::dispatch].payload_bytes == 0);
}

TEST_CASE("Many collectives in both lanes and all groups, waited for in another order") {
  const int ep = processes().size() == 4 ? 2 : processes().size();
  const auto grid = make_grid(ep);
  struct InProgress {
    Communicator* group;
    std::vector<float> x;
    Communicator::Work work;
  };
  for (int round = 0; round < 5; ++round) {
    std::vector<InProgress> all(12);
    for (size_t i = 0; i < all.size(); ++i) {
      InProgress& a = all[i];
      a.group = i % 3 == 0 ? &grid->world() : i % 3 == 1 ? &grid->experts() : &grid->replicas();
      a.x = contributions<float>(a.group->rank(), i % 2 ? 90'001 : 500, static_cast<int>(i));
      a.work = a.group->begin_all_reduce_sum(i % 4 < 2 ? Traffic::gradients : Traffic::statistics, tensor(a.x));
    }
    for (size_t i = all.size(); i-- > 0;) all[i].group->wait(all[i].work);
    for (size_t i = 0; i < all.size(); ++i)
      CHECK(all[i].x == sums<float>(all[i].group->size(), static_cast<int64_t>(all[i].x.size()), static_cast<int>(i)));
  }
}

TEST_CASE("Groups are those of the grid's picture, for every expert_parallel that divides") {
  for (int ep = 1; ep <= processes().size(); ++ep) {
    if (processes().size() % ep != 0) {
      CHECK_THROWS_WITH(make_grid(ep), Catch::Contains("does not divide"));
      continue;
    }
    const auto grid = make_grid(ep);
    const int me = processes().rank();
    CHECK(grid->rank() == me);
    CHECK(grid->expert_parallel() == ep);
    std::vector<int64_t> experts, replicas;
    for (int p = 0; p < processes().size(); ++p) {
      if (p / ep == me / ep) experts.push_back(p);
      if (p % ep == me % ep) replicas.push_back(p);
    }
    const auto members = [&](Communicator& group) {
      std::vector<int64_t> ranks(static_cast<size_t>(group.size()), -1);
      ranks[static_cast<size_t>(group.rank())] = me;
      Communicator::Work work = group.begin_all_gather(Traffic::weights, tensor(ranks));
      group.wait(work);
      return ranks;
    };
    CHECK(members(grid->experts()) == experts);
    CHECK(members(grid->replicas()) == replicas);
  }
}

TEST_CASE("A grid that ranks do not agree on is refused on all of them") {
  CHECK_THROWS_WITH(make_grid(processes().rank() == 1 ? processes().size() : 1),
                    Catch::Contains("rank 1 was started with expert_parallel"));
}

TEST_CASE("Numbers and text of the host") {
  const auto grid = make_grid();
  ControlChannel& c = grid->control();
  const int64_t n = c.size();
  CHECK(c.all_reduce_sum(int64_t{c.rank()} + 1) == n * (n + 1) / 2);
  CHECK(c.all_reduce_max(-int64_t{c.rank()}) == 0);
  const std::vector<double> numbers = c.all_gather(0.5 * c.rank());
  const auto text_of = [](int p) {
    return std::string(static_cast<size_t>(p == 0 ? 0 : p * 100'000), static_cast<char>('a' + p));
  };
  const std::vector<std::string> texts = c.all_gather(text_of(c.rank()));
  for (int p = 0; p < c.size(); ++p) {
    CHECK(numbers[static_cast<size_t>(p)] == 0.5 * p);
    CHECK(texts[static_cast<size_t>(p)] == text_of(p));
  }
  c.barrier();
}

TEST_CASE("Ranks that were started with different text are told so, all alike") {
  const auto grid = make_grid();
  CHECK_NOTHROW(require_agreement(grid->control(), "configuration", "a: 1\n"));
  const std::string mine = processes().rank() == processes().size() - 1 ? "a: 1\nb: 3\n" : "a: 1\nb: 2\n";
  CHECK_THROWS_WITH(require_agreement(grid->control(), "configuration", mine),
                    "rank " + std::to_string(processes().size() - 1) +
                        " has another configuration than rank 0: line 2 is 'b: 3' there and 'b: 2' on rank 0");
}

TEST_CASE("What MPI cannot count is refused before anything is sent") {
  const auto grid = make_grid();
  int64_t nothing = 0;  // no element of it is touched
  const Tensor huge{&nothing, DType::u8, {(int64_t{1} << 31) / 12 * 12 + 12}};
  CHECK_THROWS_WITH((void)grid->world().begin_all_gather(Traffic::weights, huge), Catch::Contains("2147483647"));
  check_all_reduce<float>(grid->world(), 100);
}

TEST_CASE("Only what was asked for is booked, and time is measured") {
  const auto grid = make_grid();
  CHECK(grid->traffic().total().calls == 1);  // ranks agreed on expert_parallel
  check_all_reduce<float>(grid->world(), 1000);
  const TrafficCounts::Kind& k = grid->world().traffic()[Traffic::statistics];
  CHECK(k.calls == 1);
  CHECK(k.sent_bytes == 4000.0 * (processes().size() - 1));
  CHECK(k.busy_seconds > 0);
  CHECK(k.exposed_seconds > 0);
}

}  // namespace
}  // namespace strand
