#include "kernels/cpu/peak_loops.h"

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "core/clock.h"

#ifdef __AVX512BF16__
#include <immintrin.h>

#include <dnnl.hpp>

#include "kernels/cpu/gemm.h"
#endif

namespace strand {

namespace {
// One register, and as many of them as hide the latency of a multiply-add (4 or 5 cycles on 2 pipes; without fused ones
// a multiplication and an addition, 6 to 7 cycles) and leave room for two operands.
#if defined(__AVX512F__)
constexpr int register_bytes = 64, accumulators = 24;
#elif defined(__AVX__)
constexpr int register_bytes = 32, accumulators = 12;
#elif defined(__aarch64__)
constexpr int register_bytes = 16, accumulators = 24;
#else
constexpr int register_bytes = 16, accumulators = 12;
#endif
constexpr int lanes = register_bytes / 4;
typedef float Register __attribute__((vector_size(register_bytes)));

constexpr double round_seconds = 0.03;
constexpr int64_t iterations = 20'000;  // between two looks at the clock: 60 to 100 µs

/// Returns a number that depends on everything computed, so that nothing is left out.
float fma_loop() {
  Register a[accumulators];
  for (int i = 0; i < accumulators; ++i) a[i] = Register{} + static_cast<float>(i);
  const Register x = Register{} + 1.0000001f, y = Register{} + 1e-9f;
  for (int64_t k = 0; k < iterations; ++k)
#pragma GCC unroll 24
    for (int i = 0; i < accumulators; ++i) a[i] = a[i] * x + y;
  for (int i = 1; i < accumulators; ++i) a[0] += a[i];
  float total = 0;
  for (int i = 0; i < lanes; ++i) total += a[0][i];
  return total;
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
  const Register sum = reinterpret_cast<Register>(a[0]);
  float total = 0;
  for (int i = 0; i < lanes; ++i) total += sum[i];
  return total;
}
#endif

/// What one thread did in a round.
struct alignas(64) Part {
  double begin = 0, end = 0;
  int64_t loops = 0;
};

/// Loops a second of all threads together, from when the first one begins until the last one ends.
template <typename Loop>
double rate_of_round(const Loop& loop) {
  std::vector<Part> parts(static_cast<size_t>(omp_get_max_threads()));
  volatile float sink = 0;
#pragma omp parallel
  {
    Part part;
#pragma omp barrier
    part.begin = part.end = now();
    while (part.end - part.begin < round_seconds) {
      const float value = loop();
      if (value == 42.0f) sink = value;  // keeps the loop
      ++part.loops;
      part.end = now();
    }
    parts[static_cast<size_t>(omp_get_thread_num())] = part;
  }
  (void)sink;
  double begin = 1e300, end = 0, loops = 0;
  for (const Part& part : parts) {
    if (part.loops == 0) continue;  // the region got fewer threads
    begin = std::min(begin, part.begin);
    end = std::max(end, part.end);
    loops += static_cast<double>(part.loops);
  }
  return loops / (end - begin);
}

template <typename Loop>
double best_rate(const Loop& loop, int rounds) {
  double best = 0;
  for (int round = 0; round < rounds; ++round) best = std::max(best, rate_of_round(loop));
  return best;
}
#ifdef __AVX512BF16__
/// FLOP/s of a large square product of oneDNN.
double bf16_product_rate(int rounds) {
  constexpr int64_t n = 2048;
  CpuGemm gemm;
  std::vector<bf16> a(n * n, bf16(1.0f)), b = a, c = a;
  const GemmShape shape{.in = DType::bf16, .out = DType::bf16, .m = n, .n = n, .k = n};
  const std::unique_ptr<std::byte, decltype(&std::free)> workspace(
      static_cast<std::byte*>(std::aligned_alloc(
          Workspace::line, (product_workspace(shape, omp_get_max_threads()) / Workspace::line + 1) * Workspace::line)),
      &std::free);
  const auto multiply = [&] { gemm.run(shape, a.data(), b.data(), c.data(), workspace.get()); };
  multiply();  // the first call generates the code
  double best = 0;
  for (int round = 0; round < rounds; ++round) {
    const double begin = now();
    double end = begin, products = 0;
    while (end - begin < round_seconds) {
      multiply();
      ++products;
      end = now();
    }
    best = std::max(best, products * 2 * n * n * n / (end - begin));
  }
  return best;
}

bool products_on_amx() {
  constexpr auto amx = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_amx);
  return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & amx) == amx;
}
#endif
}  // namespace

PeakRate measure_peak_here(PeakKind kind, int rounds) {
  // 2 FLOP a multiply-add, 2 multiply-adds a lane of a dot product.
  constexpr double flops = 2.0 * lanes * accumulators * static_cast<double>(iterations);
#ifdef __AVX512BF16__
  if (kind == PeakKind::bf16 && products_on_amx()) return {bf16_product_rate(rounds), "products on AMX tiles"};
  if (kind == PeakKind::bf16) return {2 * flops * best_rate(bf16_loop, rounds), "AVX512-BF16 dot products"};
#endif
  return {flops * best_rate(fma_loop, rounds),
          kind == PeakKind::fp32 ? "fp32 multiply-adds" : "fp32 multiply-adds (no bf16 dot products here)"};
}

}  // namespace strand
