#include "core/random.h"

#include <xxhash.h>

#include <cmath>
#include <numbers>

namespace strand {

uint64_t hash_key(uint64_t seed, std::string_view name) {
  return XXH3_64bits_withSeed(name.data(), name.size(), seed);
}

namespace {
struct Block {
  uint32_t x[4];
};

// Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011, table 2.
Block philox4x32_10(uint64_t key, uint64_t counter) {
  constexpr uint32_t m0 = 0xD2511F53u, m1 = 0xCD9E8D57u, w0 = 0x9E3779B9u, w1 = 0xBB67AE85u;
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  Block c{{static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0, 0}};
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{m0} * c.x[0], p1 = uint64_t{m1} * c.x[2];
    c = {{static_cast<uint32_t>(p1 >> 32) ^ c.x[1] ^ k0, static_cast<uint32_t>(p1),
          static_cast<uint32_t>(p0 >> 32) ^ c.x[3] ^ k1, static_cast<uint32_t>(p0)}};
    k0 += w0;
    k1 += w1;
  }
  return c;
}

uint64_t low(const Block& b) {
  return b.x[0] | uint64_t{b.x[1]} << 32;
}
uint64_t high(const Block& b) {
  return b.x[2] | uint64_t{b.x[3]} << 32;
}
double to_unit(uint64_t bits) {
  return static_cast<double>(bits >> 11) * 0x1p-53;
}
}  // namespace

uint64_t random_bits(uint64_t key, uint64_t index) {
  return low(philox4x32_10(key, index));
}

double random_uniform(uint64_t key, uint64_t index) {
  return to_unit(random_bits(key, index));
}

double random_normal(uint64_t key, uint64_t index) {
  const Block b = philox4x32_10(key, index / 2);
  const double radius = std::sqrt(-2.0 * std::log1p(-to_unit(low(b))));  // 1 - u is in (0, 1]
  const double angle = 2.0 * std::numbers::pi * to_unit(high(b));
  return radius * (index % 2 == 0 ? std::cos(angle) : std::sin(angle));
}

}  // namespace strand
