#pragma once
// bf16 products where oneDNN has none that are fast: blocks of the operands are widened to f32 and multiplied, and each
// element of the result is rounded once.
#include <algorithm>

#include "kernels/cpu/block_sizes.h"
#include "kernels/cpu/gemm.h"

namespace strand {

/// Bytes of one block of A, of B and of C in f32.
constexpr size_t widened_bytes = 3 * sizeof(float) * block_sizes::widened_block * block_sizes::widened_block;

/// The f32 product of one block of `s`. The first along k overwrites, the others add.
inline GemmShape widened_shape(const GemmShape& s, Write write, int64_t rows, int64_t columns, int64_t depth) {
  return {.layout = s.layout, .write = write, .m = rows, .n = columns, .k = depth};
}

/// body(GemmShape) for every shape among the f32 products that make up `s`: whole blocks, and what is left at the end
/// of each side.
template <typename Body>
void for_widened_shapes(const GemmShape& s, const Body& body) {
  const int64_t block = block_sizes::widened_block;
  const auto sizes = [block](int64_t side, const auto& of_size) {
    of_size(std::min(side, block));
    if (side > block && side % block != 0) of_size(side % block);
  };
  sizes(s.m, [&](int64_t rows) {
    sizes(s.n, [&](int64_t columns) {
      sizes(s.k, [&](int64_t depth) {
        for (const Write write : {Write::overwrite, Write::accumulate})
          body(widened_shape(s, write, rows, columns, depth));
      });
    });
  });
}

}  // namespace strand
