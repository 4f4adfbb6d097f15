#include "data/permutation.h"

#include "core/error.h"
#include "core/random.h"

namespace strand {

namespace {
constexpr int rounds =
    6;  // four make a Feistel network of random functions a strong permutation (Luby and Rackoff 1988)

uint64_t feistel(uint64_t value, int half_bits, uint64_t key) {
  const uint64_t mask = (uint64_t{1} << half_bits) - 1;
  uint64_t left = value >> half_bits, right = value & mask;
  for (uint64_t round = 0; round < rounds; ++round) {
    const uint64_t mixed = left ^ (random_bits(key, round << 32 | right) & mask);
    left = right;
    right = mixed;
  }
  return left << half_bits | right;
}
}  // namespace

int64_t permute(int64_t index, int64_t n, uint64_t key) {
  require(index >= 0 && index < n, "permute: {} is outside [0, {})", index, n);
  int half_bits = 1;
  while (half_bits < 31 && (int64_t{1} << (2 * half_bits)) < n) ++half_bits;
  require(n <= int64_t{1} << 62, "permute: {} elements are too many", n);
  uint64_t value = static_cast<uint64_t>(index);
  do {
    value = feistel(value, half_bits, key);
  } while (value >= static_cast<uint64_t>(n));
  return static_cast<int64_t>(value);
}

}  // namespace strand
