#pragma once
// Counter-based random numbers: every value is a pure function of (key, index), so nothing depends on who draws first.
#include <cstdint>
#include <string_view>

namespace strand {

/// A 64-bit hash of a name under a seed (XXH3); the key of a random stream.
uint64_t hash_key(uint64_t seed, std::string_view name);

/// 64 random bits: Philox4x32-10 (Salmon et al. 2011) with `key`, at counter `index`.
uint64_t random_bits(uint64_t key, uint64_t index);

/// Uniform in [0, 1), 53 bits.
double random_uniform(uint64_t key, uint64_t index);

/// Standard normal by Box-Muller: elements 2j and 2j+1 are the two values of pair j.
double random_normal(uint64_t key, uint64_t index);

/// A fixed random sample of tokens: token `index` (counted over the whole step, whatever the layout) belongs to it when
/// its uniform number under `key` is below `fraction`.
struct TokenSample {
  double fraction = 1.0;    ///< in (0, 1]; 1 = every token
  uint64_t key = 0;         ///< hash_key of (seed, step)
  int64_t first_token = 0;  ///< index in the step of the first token of a batch

  bool contains(int64_t token) const {
    return fraction >= 1.0 || random_uniform(key, static_cast<uint64_t>(first_token + token)) < fraction;
  }
};

}  // namespace strand
