// The means by which the other tests see results that depend on threads, and sums over so many blocks, of such
// different sizes, that their order shows in the last bits.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/random.h"
#include "harness.h"
#include "kernels/cpu/block_sizes.h"
#include "loop_order.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
/// The order in which one thread meets the iterations of a loop.
std::vector<int> order_of_a_loop() {
  std::vector<int> order;
#pragma omp parallel for schedule(dynamic) num_threads(1)
  for (int i = 3; i < 12; i += 2) order.push_back(i);
  return order;
}
std::vector<int> order_inside_a_region() {
  std::vector<int> order;
#pragma omp parallel num_threads(1)
  {
#pragma omp for schedule(dynamic, 2)
    for (int i = 0; i < 5; ++i) order.push_back(i);
  }
  return order;
}
}  // namespace

#if defined(__GNUC__) && !defined(__clang__)
TEST_CASE("Blocks of parallel loops can be handed out last first") {
  CHECK(order_of_a_loop() == std::vector<int>{3, 5, 7, 9, 11});
  CHECK(order_inside_a_region() == std::vector<int>{0, 1, 2, 3, 4});
  {
    const LastBlocksFirst reversed;
    CHECK(order_of_a_loop() == std::vector<int>{11, 9, 7, 5, 3});
    CHECK(order_inside_a_region() == std::vector<int>{3, 4, 1, 2, 0});
  }
  CHECK(order_of_a_loop() == std::vector<int>{3, 5, 7, 9, 11});
}
#endif

namespace {
constexpr int64_t many = 24;  // blocks

/// The size of what block `b` adds to a sum: the first is the largest by far, so that what is added after it is rounded
/// again and again, and what is added before it is not.
double scale_of_block(int64_t b) {
  return b == 0 ? 1e4 : std::ldexp(1.0, -static_cast<int>(b % 5) * 6);
}

double random(const char* name, int64_t i) {
  return static_cast<float>(random_normal(hash_key(11, name), static_cast<uint64_t>(i)));
}

/// Do these numbers show the order of blocks of `size`? Sums each block, and the blocks in both orders.
void require_that_order_shows(const Values& terms, int64_t size) {
  Values blocks;
  for (size_t begin = 0; begin < terms.size(); begin += static_cast<size_t>(size)) {
    const size_t end = std::min(terms.size(), begin + static_cast<size_t>(size));
    blocks.push_back(
        std::accumulate(terms.begin() + static_cast<int64_t>(begin), terms.begin() + static_cast<int64_t>(end), 0.0));
  }
  REQUIRE(blocks.size() == static_cast<size_t>(many));
  REQUIRE(std::accumulate(blocks.begin(), blocks.end(), 0.0) != std::accumulate(blocks.rbegin(), blocks.rend(), 0.0));
}

int64_t tokens_of(int64_t blocks) {
  return blocks * block_sizes::tokens;
}
}  // namespace

TEST_CASE("SumOfSquares over many blocks, in their order") {
  const int64_t size = block_sizes::optimizer_elements;
  Values x, squares;
  for (int64_t i = 0; i < many * size; ++i) {
    x.push_back(static_cast<float>(random("x", i) * scale_of_block(i / size)));
    squares.push_back(x.back() * x.back());
  }
  require_that_order_shows(squares, size);
  compare_all([&](Stage& s) {
    const Tensor sum = s.scalar();
    s.run(SumOfSquares{.x = s.acc_of({many * size}, x), .sum = sum});
    s.report("sum", sum);
  });
}

TEST_CASE("SpecializationTerm and OrthogonalityTerm over many blocks, in their order") {
  const int64_t T = tokens_of(many);
  Values gram, sp, o;
  for (int64_t t = 0; t < T; ++t) {
    const double scale = scale_of_block(t / block_sizes::tokens);
    const auto a = static_cast<float>((1 + std::abs(random("a", t))) * scale);
    const auto b = static_cast<float>((1 + std::abs(random("b", t))) * scale);
    // cos² is large in the first block and small in the others
    const auto ab = static_cast<float>(random("ab", t) * scale * (t < block_sizes::tokens ? 0.5 : 0.001));
    gram.insert(gram.end(), {a, ab, ab, b});
    const double square = static_cast<double>(ab) * ab;
    sp.push_back(2 * square / (static_cast<double>(a) * b));
    o.push_back(square / a + square / b);
  }
  require_that_order_shows(sp, block_sizes::tokens);
  require_that_order_shows(o, block_sizes::tokens);
  compare_all([&](Stage& s) {
    const Tensor of_sp = s.scalar(), of_o = s.scalar(), g = s.acc_of({T, 2, 2}, gram);
    s.run(SpecializationTerm{.gram = g, .sp_scale = 1024, .sp = of_sp});
    s.run(OrthogonalityTerm{.gram = g, .o_scale = 1024, .o = of_o});
    s.report("sp", of_sp);
    s.report("o", of_o);
  });
}

TEST_CASE("CouplingTokenTerm and CrossEntropy over many blocks, in their order") {
  const int64_t T = tokens_of(many), V = 3;
  Values lower, upper, products, logits, losses;
  Ids targets;
  for (int64_t t = 0; t < T; ++t) {
    const double scale = scale_of_block(t / block_sizes::tokens);
    lower.push_back(static_cast<float>(std::abs(random("lower", t)) * scale));
    upper.push_back(static_cast<float>(std::abs(random("upper", t))));
    products.push_back(lower.back() * upper.back());
    targets.push_back(static_cast<int32_t>(t % V));
    double sum = 0;
    for (int64_t v = 0; v < V; ++v) {
      logits.push_back(static_cast<float>(random("logits", t * V + v) * std::min(scale, 50.0)));
      sum += std::exp(logits.back());
    }
    losses.push_back(std::log(sum) - logits[static_cast<size_t>(t * V + t % V)]);
  }
  require_that_order_shows(products, block_sizes::tokens);
  require_that_order_shows(losses, block_sizes::tokens);
  compare_all([&](Stage& s) {
    const Tensor cp = s.scalar(), ce = s.scalar();
    s.run(CouplingTokenTerm{
        .lower_source_mass = s.acc_of({T}, lower), .upper_top_mass = s.acc_of({T}, upper), .cp_scale = 1024, .cp = cp});
    s.run(CrossEntropy{.logits = s.acc_of({T, V}, logits),
                       .targets = s.ids_of({T}, targets),
                       .numbers = s.numbers({{StepNumber::target_share, 1024}}),
                       .ce = ce});
    s.report("cp", cp);
    s.report("ce", ce, {.terms = V});
  });
}

TEST_CASE("RouterTerms and RoutingStatistics over many blocks, in their order") {
  const int64_t T = tokens_of(many), E = 3;
  Values logits, probs, sums(static_cast<size_t>(2 * E), 0.0);
  Ids selected;
  for (int64_t t = 0; t < T; ++t) {
    const double scale = scale_of_block(t / block_sizes::tokens);
    selected.push_back(static_cast<int32_t>(t % E));
    for (int64_t e = 0; e < E; ++e) {
      logits.push_back(static_cast<float>(random("logits", t * E + e) * std::min(scale, 30.0)));
      probs.push_back(static_cast<float>(std::abs(random("p", t * E + e)) * scale));
    }
  }
  compare_all([&](Stage& s) {
    const RoutingStatistics statistics{.probs = s.acc_of({T, E}, probs),
                                       .selected = s.ids_of({T, 1}, selected),
                                       .statistics = s.acc_out({2, 1, E}),
                                       .step_counts = s.acc("counts", {E})};
    s.run(statistics);
    const RouterTerms terms{.logits = s.acc_of({T, E}, logits),
                            .probs = statistics.probs,
                            .statistics = s.acc_of({2, 1, E}, sums),
                            .mean_share = 1.0 / static_cast<double>(T),
                            .z_scale = 1024,
                            .v_scale = 1024.0 / static_cast<double>(T * E),
                            .z = s.scalar(),
                            .v = s.scalar()};
    s.run(terms);
    s.report("statistics", statistics.statistics, {.terms = block_sizes::tokens});
    s.report("step counts", statistics.step_counts);
    s.report("z", terms.z, {.terms = E});
    s.report("v", terms.v, {.terms = E});
  });
}
