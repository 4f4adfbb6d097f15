// The sampler is a pure function, visits every window once an epoch, and keeps to the weights at every prefix.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include "data/permutation.h"
#include "data/sampler.h"
#include "files.h"

using namespace strand;
using namespace strand_test;

namespace {

// A raw file with the ids first, first + 1, ...: a window shows where it comes from.
std::shared_ptr<const TokenFile> counting_file(const std::string& path, int64_t tokens, int32_t first = 0) {
  Bytes bytes;
  for (int64_t i = 0; i < tokens; ++i) bytes.put(static_cast<int32_t>(first + i));
  write_file(path, bytes.str());
  return std::make_shared<const TokenFile>(path, TokenFormat::raw_i32);
}

constexpr int64_t vocab = 1 << 20;

}  // namespace

TEST_CASE("permute is a permutation for every small n, and for a large one") {
  for (int64_t n = 1; n <= 300; ++n) {
    std::vector<bool> seen(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) seen[static_cast<size_t>(permute(i, n, 42))] = true;
    CHECK(std::all_of(seen.begin(), seen.end(), [](bool s) { return s; }));
  }
  constexpr int64_t large = 100003;
  std::vector<bool> seen(large);
  for (int64_t i = 0; i < large; ++i) seen[static_cast<size_t>(permute(i, large, 7))] = true;
  CHECK(std::all_of(seen.begin(), seen.end(), [](bool s) { return s; }));
  CHECK(permute((int64_t{1} << 60) - 1, int64_t{1} << 60, 1) < (int64_t{1} << 60));
}

TEST_CASE("permute mixes: positions do not follow indices, and keys differ") {
  // Correlation of index and image of n = 10000: for random permutations it is normal with sd 1/sqrt(n-1) = 0.01, so
  // 0.05 is five of them. Fixed points and agreements of two keys are Poisson(1): 12 would be a chance below 1e-9.
  constexpr int64_t n = 10000;
  double covariance = 0;
  int fixed = 0, agree = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t image = permute(i, n, 3);
    const double mean = (n - 1) / 2.0;
    covariance += (static_cast<double>(i) - mean) * (static_cast<double>(image) - mean);
    fixed += image == i;
    agree += image == permute(i, n, 4);
  }
  const double variance = n * (static_cast<double>(n) * n - 1) / 12.0;
  CHECK(std::abs(covariance / variance) < 0.05);
  CHECK(fixed < 12);
  CHECK(agree < 12);
}

TEST_CASE("each epoch visits each window exactly once, in its own order") {
  const TemporaryDirectory dir;
  // 1003 tokens, S = 10: windows start at 0, 10, ..., 990 (the last has tokens 990..1000); 2 tokens are left over.
  const Sampler sampler({{counting_file(dir / "a.bin", 1003), 1.0}}, 10, vocab, 5);
  REQUIRE(sampler.windows() == 100);
  std::vector<std::vector<int32_t>> orders;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    std::vector<int32_t> order;
    for (int64_t i = 0; i < 100; ++i) {
      int32_t tokens[11];
      sampler.sample(epoch * 100 + i, tokens);
      for (int j = 1; j <= 10; ++j) REQUIRE(tokens[j] == tokens[0] + j);
      REQUIRE(tokens[0] % 10 == 0);
      order.push_back(tokens[0] / 10);
    }
    orders.push_back(order);
    std::sort(order.begin(), order.end());
    for (int32_t w = 0; w < 100; ++w) CHECK(order[static_cast<size_t>(w)] == w);
  }
  CHECK(orders[0] != orders[1]);
  CHECK(orders[1] != orders[2]);
}

TEST_CASE("a sample depends on seed and index alone") {
  const TemporaryDirectory dir;
  const auto a = counting_file(dir / "a.bin", 5000), b = counting_file(dir / "b.bin", 3000, 10000);
  const Sampler one({{a, 1.0}, {b, 2.0}}, 16, vocab, 9), two({{a, 2.0}, {b, 4.0}}, 16, vocab, 9);
  const Sampler other({{a, 1.0}, {b, 2.0}}, 16, vocab, 10);
  int differ = 0;
  int32_t x[17], y[17], z[17];
  for (int64_t i = 999; i >= 0; --i) {  // backwards: no call leaves a trace
    one.sample(i, x);
    two.sample(i, y);
    other.sample(i, z);
    REQUIRE(std::equal(x, x + 17, y));  // only the ratio of weights counts
    differ += !std::equal(x, x + 17, z);
  }
  CHECK(differ > 900);
}

TEST_CASE("every prefix keeps to the weights, and every source to its epochs") {
  const TemporaryDirectory dir;
  const std::vector<double> weights = {0.5, 3.0, 0.01, 1.7};
  const std::vector<int64_t> tokens = {101, 257, 33, 1025};  // 25, 64, 8 and 256 windows of 4
  std::vector<Sampler::Source> sources;
  for (size_t k = 0; k < weights.size(); ++k) {
    sources.push_back({counting_file(dir / fmt::format("s{}", k), tokens[k]), weights[k]});
  }
  const Sampler sampler(sources, 4, vocab, 1);
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<int64_t> count(4);
  std::vector<std::set<int64_t>> seen(4);
  for (int64_t i = 0; i < 20000; ++i) {
    const Sampler::Location at = sampler.locate(i);
    const auto k = static_cast<size_t>(at.source);
    const int64_t windows = sampler.windows(at.source);
    REQUIRE(at.epoch == count[k] / windows);
    if (count[k] % windows == 0) seen[k].clear();
    REQUIRE(seen[k].insert(at.window).second);  // not met before in this epoch
    ++count[k];
    for (size_t s = 0; s < 4; ++s) {
      const double wanted = static_cast<double>(i + 1) * weights[s] / sum;
      REQUIRE(std::abs(static_cast<double>(count[s]) - wanted) < 1.0 + static_cast<double>(s));
    }
  }
}

TEST_CASE("late samples are exact: no rounding of large indices") {
  const TemporaryDirectory dir;
  const auto a = counting_file(dir / "a.bin", 1001), b = counting_file(dir / "b.bin", 1001);
  const Sampler sampler({{a, 1.0}, {b, 1.0}}, 10, vocab, 1);
  // At equal weights the sources take turns; past 2^53 doubles no longer tell neighbours apart.
  const int64_t late = (int64_t{1} << 60) + 1;
  for (int64_t i = 0; i < 100; ++i) CHECK(sampler.locate(late + i).source != sampler.locate(late + i + 1).source);
}

TEST_CASE("validation reads all windows in order") {
  const TemporaryDirectory dir;
  const auto a = counting_file(dir / "a.bin", 25), b = counting_file(dir / "b.bin", 11, 1000);
  const Sampler sampler({{a, 5.0}, {b, 1.0}}, 8, vocab, 1);
  REQUIRE(sampler.windows() == 4);  // 3 of a, 1 of b
  const int32_t starts[] = {0, 8, 16, 1000};
  for (int64_t w = 0; w < 4; ++w) {
    int32_t tokens[9];
    sampler.window(w, tokens);
    for (int j = 0; j <= 8; ++j) CHECK(tokens[j] == starts[w] + j);
  }
  int32_t tokens[9];
  check_error([&] { sampler.window(4, tokens); }, {"window 4"});
}

TEST_CASE("sources that cannot be sampled are refused") {
  const TemporaryDirectory dir;
  const auto a = counting_file(dir / "a.bin", 8);
  CHECK(Sampler({{a, 1.0}}, 7, vocab, 1).windows() == 1);
  check_error([&] { Sampler({{a, 1.0}}, 8, vocab, 1); }, {"a.bin", "8 tokens", "9"});
  check_error([&] { Sampler({{a, 0.0}}, 4, vocab, 1); }, {"a.bin", "weight"});
  check_error([&] { Sampler({{a, std::nan("")}}, 4, vocab, 1); }, {"a.bin", "weight"});
  check_error([] { Sampler({}, 4, vocab, 1); }, {"no token file"});
  const Sampler small({{a, 1.0}}, 7, 5, 1);
  int32_t tokens[8];
  check_error([&] { small.sample(0, tokens); }, {"a.bin", "token 5", "vocabulary of 5"});
}
