#include "kernels/cpu/peak_loops.h"

#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "kernels/cpu/simd.h"
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace strand {

namespace {
constexpr int accumulators = 24;  // hides a latency of 4 cycles on up to 6 pipes
constexpr int64_t iterations = 200'000;

float fma_loop() {
  simd::vfloat a[accumulators];
  for (int i = 0; i < accumulators; ++i) a[i] = simd::splat(static_cast<float>(i));
  const simd::vfloat x = simd::splat(1.0000001f), y = simd::splat(1e-9f);
  for (int64_t k = 0; k < iterations; ++k)
#pragma GCC unroll 24
    for (int i = 0; i < accumulators; ++i) a[i] = a[i] * x + y;
  for (int i = 1; i < accumulators; ++i) a[0] += a[i];
  return simd::sum(a[0]);
}

#ifdef __AVX512BF16__
float bf16_loop() {
  __m512 a[accumulators];
  const __m512bh x = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3f80));
  const __m512bh y = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3580));
  for (int i = 0; i < accumulators; ++i) a[i] = _mm512_set1_ps(static_cast<float>(i));
  for (int64_t k = 0; k < iterations; ++k)
#pragma GCC unroll 24
    for (int i = 0; i < accumulators; ++i) a[i] = _mm512_dpbf16_ps(a[i], x, y);
  for (int i = 1; i < accumulators; ++i) a[0] = _mm512_add_ps(a[0], a[i]);
  return simd::sum(reinterpret_cast<simd::vfloat>(a[0]));
}
#endif

template <typename Loop>
double best_seconds(const Loop& loop, int rounds) {
  using clock = std::chrono::steady_clock;
  double best = 1e30;
  volatile float sink = 0;
  for (int round = 0; round < rounds; ++round) {
    const auto start = clock::now();
#pragma omp parallel
    {
      const float value = loop();
      if (value == 42.0f) sink = value;  // keeps the loop
    }
    best = std::min(best, std::chrono::duration<double>(clock::now() - start).count());
  }
  (void)sink;
  return best;
}
}  // namespace

PeakRate measure_peak_here(PeakKind kind, int rounds, int processes) {
  const double threads = omp_get_max_threads();
  const double cores = static_cast<double>(sysconf(_SC_NPROCESSORS_ONLN));
  const double running = std::min(threads, processes == 1 ? threads : cores / processes);
  const double operations = running * static_cast<double>(iterations) * accumulators * 2.0;
#ifdef __AVX512BF16__
  if (kind == PeakKind::bf16) return {operations * 32 / best_seconds(bf16_loop, rounds), "AVX512-BF16 dot products"};
#endif
  return {operations * simd::width / best_seconds(fma_loop, rounds),
          kind == PeakKind::fp32 ? "fp32 multiply-adds" : "fp32 multiply-adds (no bf16 dot products here)"};
}

}  // namespace strand
