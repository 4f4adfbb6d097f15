#pragma once
// Parallel loops in blocks whose size does not depend on the number of threads, so that sums over tokens do not either:
// every block has its own partial sum, and partial sums are added in the order of the blocks.
#include <omp.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>

#include "kernels/cpu/block_sizes.h"

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

/// Memory on cache lines that grows to the largest request and is kept for the next call. Meant as a `thread_local` of
/// the function that starts the parallel loop.
class Scratch {
 public:
  Scratch() = default;
  ~Scratch() { release(); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  /// Room for `count` elements; contents undefined, earlier pointers invalid.
  template <typename T>
  T* get(int64_t count) {
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    if (bytes > capacity_) {
      release();
      memory_ = ::operator new(bytes, line);
      capacity_ = bytes;
    }
    return static_cast<T*>(memory_);
  }

 private:
  static constexpr std::align_val_t line{64};
  void release() {
    ::operator delete(memory_, line);
    memory_ = nullptr;
    capacity_ = 0;
  }
  void* memory_ = nullptr;
  size_t capacity_ = 0;
};

/// One buffer of floats for each thread of the next parallel loop, on cache lines of its own.
class ThreadBuffers {
 public:
  ThreadBuffers(Scratch& scratch, int64_t floats)
      : stride_(blocks_of(floats, 16) * 16), base_(scratch.get<float>(stride_ * omp_get_max_threads())) {}
  float* mine() const { return base_ + stride_ * omp_get_thread_num(); }

 private:
  int64_t stride_;
  float* base_;
};

/// Σ over blocks of body(begin, end), a double.
template <typename Body>
double sum_over_blocks(int64_t count, const Body& body) {
  static thread_local Scratch scratch;
  double* partial = scratch.get<double>(blocks_of(count, token_block));
  for_blocks(count, token_block, [&](int64_t begin, int64_t end, int64_t block) { partial[block] = body(begin, end); });
  double total = 0;
  for (int64_t block = 0; block < blocks_of(count, token_block); ++block) total += partial[block];
  return total;
}

}  // namespace strand
