#pragma once
// Counter-based random numbers: every value is a pure function of (key, index), so nothing depends on the order in
// which values are drawn.
#include <cstdint>
#include <string_view>

namespace strand {

/// A 64-bit hash of a name under a seed (XXH3); the key of a random stream.
uint64_t hash_key(uint64_t seed, std::string_view name);

/// 64 random bits: Philox4x32-10 (Salmon et al. 2011) with `key`, at counter `index`.
uint64_t random_bits(uint64_t key, uint64_t index);

/// A uniform number in [0, 1) with 53 random bits.
double random_uniform(uint64_t key, uint64_t index);

/// A standard normal number, by Box-Muller: the indices 2j and 2j+1 give the two values of pair j.
double random_normal(uint64_t key, uint64_t index);

}  // namespace strand
