#pragma once
// The counter-based random numbers of core/random.h on the GPU. They have the same bits.
#include "kernels/cuda/dispatch.cuh"
#include "kernels/cuda/gpu.cuh"
#include "kernels/ops/step_numbers.h"

namespace strand::gpu {

/// The lower 64 of the 128 bits of Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011, table 2).
__device__ inline uint64_t random_bits(uint64_t key, uint64_t counter) {
  constexpr uint32_t m0 = 0xD2511F53u, m1 = 0xCD9E8D57u, w0 = 0x9E3779B9u, w1 = 0xBB67AE85u;
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  uint32_t x0 = static_cast<uint32_t>(counter), x1 = static_cast<uint32_t>(counter >> 32), x2 = 0, x3 = 0;
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{m0} * x0, p1 = uint64_t{m1} * x2;
    x0 = static_cast<uint32_t>(p1 >> 32) ^ x1 ^ k0;
    x1 = static_cast<uint32_t>(p1);
    x2 = static_cast<uint32_t>(p0 >> 32) ^ x3 ^ k1;
    x3 = static_cast<uint32_t>(p0);
    k0 += w0;
    k1 += w1;
  }
  return x0 | uint64_t{x1} << 32;
}

/// A uniform number in [0, 1) of 53 bits.
__device__ inline double random_uniform(uint64_t key, uint64_t index) {
  return static_cast<double>(random_bits(key, index) >> 11) * 0x1p-53;
}

/// TokenSample as kernels see it.
struct Sample {
  double fraction;
  const double* numbers;  ///< StepNumber's vector, in device memory
  int64_t first_token;

  /// Whether a token of the batch is in the sample. Every product and comparison is exact, so that the host and the GPU
  /// draw the same sample.
  __device__ bool contains(int64_t token) const {
    if (fraction >= 1.0) return true;
    const uint64_t key = static_cast<uint64_t>(numbers[place(StepNumber::sample_key_high)]) << 32 |
                         static_cast<uint64_t>(numbers[place(StepNumber::sample_key_low)]);
    return random_uniform(key, static_cast<uint64_t>(first_token + token)) < fraction;
  }
};

inline Sample sample_of(const TokenSample& sample) {
  return {sample.fraction, data<double>(sample.numbers), sample.first_token};
}

}  // namespace strand::gpu
