#pragma once
// A pseudo-random permutation of [0, n) under a key. It is computed and not stored: any element takes constant time and
// memory.
#include <cstdint>

namespace strand {

/// Element `index` of the permutation of [0, n) under `key`, with 0 <= index < n.
///
/// A balanced Feistel network permutes the smallest 2^(2h) >= n; results >= n are permuted again until one falls inside
/// ("cycle walking", Black and Rogaway 2002), which keeps it a permutation of [0, n). 2^(2h) < 4n, so fewer than four
/// rounds of walking are expected.
int64_t permute(int64_t index, int64_t n, uint64_t key);

}  // namespace strand
