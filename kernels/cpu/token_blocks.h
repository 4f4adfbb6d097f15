#pragma once
// Parallel loops in blocks whose size does not depend on the number of threads, so that sums over tokens do not either:
// every block has its own partial sum, and partial sums are added in the order of the blocks.
#include <algorithm>
#include <cstdint>

#include "kernels/cpu/block_sizes.h"
#include "kernels/cpu/workspace.h"

namespace strand {

constexpr int64_t token_block = block_sizes::tokens;

inline int64_t blocks_of(int64_t count, int64_t size) {
  return (count + size - 1) / size;
}

/// body(begin, end, block) for each block of `size` consecutive items, on all threads. The body must not throw.
template <typename Body>
void for_blocks(int64_t count, int64_t size, const Body& body) {
  const int64_t blocks = blocks_of(count, size);
#pragma omp parallel for schedule(dynamic) if (blocks > 1)
  for (int64_t block = 0; block < blocks; ++block) {
    body(block * size, std::min(count, (block + 1) * size), block);
  }
}

/// The partial sums of sum_over_blocks.
struct PartialSums {
  PartialSums(Workspace& memory, int64_t count) : partial(memory.take<double>(blocks_of(count, token_block))) {}
  double* partial;  ///< [blocks]
};

/// Σ over blocks of body(begin, end), a double.
template <typename Body>
double sum_over_blocks(int64_t count, const PartialSums& sums, const Body& body) {
  double* const partial = sums.partial;
  for_blocks(count, token_block, [&](int64_t begin, int64_t end, int64_t block) { partial[block] = body(begin, end); });
  double total = 0;
  for (int64_t block = 0; block < blocks_of(count, token_block); ++block) total += partial[block];
  return total;
}

}  // namespace strand
