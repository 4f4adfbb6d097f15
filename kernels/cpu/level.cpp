// The one function of a level that the rest of the program sees. STRAND_CPU_LEVEL is the level's name.
#include "kernels/cpu/level.h"

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/peak_loops.h"

#define STRAND_TEXT_OF(word) #word
#define STRAND_TEXT(word) STRAND_TEXT_OF(word)

namespace {
// A build for one machine alone (STRAND_NATIVE) may hold more than its tier; that it holds no less is what counts.
constexpr strand::CpuTier compiled_for =
#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
    strand::CpuTier::x86_v4_bf16;
#elif defined(__AVX512BW__) && defined(__AVX512CD__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
    strand::CpuTier::x86_v4;
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && defined(__BMI2__) && defined(__MOVBE__)
    strand::CpuTier::x86_v3;
#elif defined(__SSE4_2__) && defined(__POPCNT__)
    strand::CpuTier::x86_v2;
#else
    strand::CpuTier::any;
#endif
}  // namespace

extern "C" const strand::CpuLevel* STRAND_CPU_LEVEL_FUNCTION(STRAND_CPU_LEVEL)();

const strand::CpuLevel* STRAND_CPU_LEVEL_FUNCTION(STRAND_CPU_LEVEL)() {
  using namespace strand;
  static const CpuLevel level{
      .name = STRAND_TEXT(STRAND_CPU_LEVEL),
      .needs = compiled_for,
      .make_ops = [](Device& device) -> std::unique_ptr<Ops> { return std::make_unique<CpuOps>(device); },
      .workspaces = []() -> std::shared_ptr<const OpWorkspaces> { return std::make_shared<CpuWorkspaces>(); },
      .multiplies_bf16 = onednn_multiplies_bf16,
      .measure_peak = measure_peak_here,
  };
  return &level;
}
