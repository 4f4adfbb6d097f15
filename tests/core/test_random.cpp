// Counter-based random numbers against published vectors, and the distributions built on them.
#include <array>
#include <cmath>
#include <numbers>

#include "core/random.h"
#include "tests/catch.h"

namespace strand {
namespace {

using Words = std::array<uint32_t, 4>;

/// Philox4x32-10 as Salmon et al. (SC 2011) describe it, with all four counter words.
Words philox(Words c, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t even = uint64_t{0xD2511F53} * c[0], odd = uint64_t{0xCD9E8D57} * c[2];
    const auto high = [](uint64_t v) { return static_cast<uint32_t>(v >> 32); };
    c = {high(odd) ^ c[1] ^ key[0], static_cast<uint32_t>(odd), high(even) ^ c[3] ^ key[1],
         static_cast<uint32_t>(even)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return c;
}

TEST_CASE("The textbook generator gives the known answers of Random123") {
  // kat_vectors of Random123 1.14: counter, key, answer.
  CHECK(philox({0, 0, 0, 0}, {0, 0}) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  const uint32_t f = 0xffffffff;
  CHECK(philox({f, f, f, f}, {f, f}) == Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

const uint64_t keys[] = {0, 1, 0x123456789abcdef0, ~uint64_t{0}};
const uint64_t indices[] = {0, 1, 2, 0xffffffff, 0x100000000, 0xfedcba9876543210, ~uint64_t{0}};

Words textbook(uint64_t key, uint64_t index) {
  return philox({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), 0, 0},
                {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)});
}

TEST_CASE("Random bits are the generator's first two words") {
  CHECK(random_bits(0, 0) == 0xe169c58d6627e8d5);
  for (uint64_t key : keys) {
    for (uint64_t index : indices) {
      const Words w = textbook(key, index);
      const uint64_t bits = w[0] | uint64_t{w[1]} << 32;
      CHECK(random_bits(key, index) == bits);
      CHECK(random_uniform(key, index) == static_cast<double>(bits >> 11) / 9007199254740992.0);
    }
  }
}

TEST_CASE("Normal numbers 2j and 2j + 1 are Box and Muller's pair of block j") {
  for (uint64_t key : keys) {
    for (uint64_t pair : {uint64_t{0}, uint64_t{5}, uint64_t{1} << 40}) {
      const Words w = textbook(key, pair);
      const double u = static_cast<double>((w[0] | uint64_t{w[1]} << 32) >> 11) * 0x1p-53;
      const double v = static_cast<double>((w[2] | uint64_t{w[3]} << 32) >> 11) * 0x1p-53;
      const double x = random_normal(key, 2 * pair), y = random_normal(key, 2 * pair + 1);
      CHECK(x * x + y * y == Approx(-2 * std::log(1 - u)).epsilon(1e-12).margin(1e-15));
      if (u > 0) {
        const double turn = std::atan2(y, x) / (2 * std::numbers::pi);
        CHECK(std::abs(std::remainder(turn - v, 1.0)) < 1e-12);
      }
    }
  }
}

TEST_CASE("Moments of uniform and normal numbers") {
  constexpr int n = 200000;
  const uint64_t key = hash_key(7, "moments");
  double uniform = 0, m1 = 0, m2 = 0, m3 = 0, m4 = 0, neighbours = 0, beyond = 0, previous = 0;
  for (uint64_t i = 0; i < n; ++i) {
    const double u = random_uniform(key, i), x = random_normal(key, i);
    REQUIRE(u >= 0.0);
    REQUIRE(u < 1.0);
    REQUIRE(std::isfinite(x));
    uniform += u / n;
    m1 += x / n;
    m2 += x * x / n;
    m3 += x * x * x / n;
    m4 += x * x * x * x / n;
    neighbours += x * previous / n;
    beyond += std::abs(x) > 1.959963985 ? 1.0 / n : 0.0;
    previous = x;
  }
  // 5 standard errors of means of n independent numbers: variances 1/12, 1, 2, 15, 96, 1 and 0.05 · 0.95.
  const auto within = [](double value, double expected, double variance) {
    return std::abs(value - expected) < 5 * std::sqrt(variance / n);
  };
  CHECK(within(uniform, 0.5, 1.0 / 12));
  CHECK(within(m1, 0, 1));
  CHECK(within(m2, 1, 2));
  CHECK(within(m3, 0, 15));
  CHECK(within(m4, 3, 96));
  CHECK(within(neighbours, 0, 1));
  CHECK(within(beyond, 0.05, 0.05 * 0.95));
}

TEST_CASE("Keys are XXH3 of the name under the seed") {
  CHECK(hash_key(0, "") == 0x2d06800538d394c2);  // the published hash of nothing
  CHECK(hash_key(1, "a") != hash_key(2, "a"));
  CHECK(hash_key(1, "a") != hash_key(1, "b"));
  CHECK(hash_key(1, std::string_view("ab").substr(0, 1)) == hash_key(1, "a"));
}

}  // namespace
}  // namespace strand
