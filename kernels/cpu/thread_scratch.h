#pragma once
// Working memory of one thread for the length of one operation. It grows to the largest request, is kept until the
// thread ends, and is aligned to cache lines, so that a steady step allocates nothing. Contents are undefined.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace strand {

enum class ScratchUse : uint8_t {
  worker,  ///< what a thread works in, inside a parallel region
  shared,  ///< what the calling thread holds for all of them around it
};

template <ScratchUse use>
float* thread_scratch(int64_t floats) {
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  thread_local std::unique_ptr<float, Free> memory;
  thread_local int64_t capacity = 0;
  if (floats > capacity) {
    memory.reset();
    capacity = 0;
    const size_t bytes = (static_cast<size_t>(floats) * sizeof(float) + 63) / 64 * 64;
    memory.reset(static_cast<float*>(std::aligned_alloc(64, bytes)));
    if (!memory) throw std::bad_alloc();
    capacity = floats;
  }
  return memory.get();
}

/// Hands out consecutive pieces of a scratch buffer, each on a cache line; with no buffer it only counts.
class ScratchPieces {
 public:
  explicit ScratchPieces(float* base = nullptr) : base_(base) {}
  float* take(int64_t floats) {
    float* piece = base_ ? base_ + used_ : nullptr;
    used_ += (floats + 15) / 16 * 16;
    return piece;
  }
  int64_t used() const { return used_; }

 private:
  float* base_;
  int64_t used_ = 0;
};

}  // namespace strand
