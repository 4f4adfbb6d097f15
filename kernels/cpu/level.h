#pragma once
// The border between one compilation of the kernels and the rest of the program.
//
// All sources of this folder but backend.cpp and isa.cpp are compiled once for each level of instruction sets and
// linked into one object, of which only the function below is visible to the linker (CMakeLists.txt). So a level's copy
// of std::vector, of a lambda or of any other inline function, which may hold instructions that this CPU does not have,
// is never taken for the program's own.
#include <cstdint>
#include <memory>

#include "kernels/ops.h"

namespace strand {

/// What instructions a CPU must have, in ascending order. Each includes all before it.
enum class CpuTier : uint8_t {
  any,          ///< what every CPU of this architecture has
  x86_v2,       ///< x86-64-v2: SSE4.2
  x86_v3,       ///< x86-64-v3: AVX2 and FMA
  x86_v4,       ///< x86-64-v4: AVX-512 F, BW, CD, DQ, VL
  x86_v4_bf16,  ///< and AVX512-BF16
};

/// One compilation of the kernels.
struct CpuLevel {
  const char* name;  ///< "avx2": the word for STRAND_ISA
  CpuTier needs;
  std::unique_ptr<Ops> (*make_ops)(Device& device);
  /// What these operations work in beside their tensors, on omp_get_max_threads() threads.
  std::shared_ptr<const OpWorkspaces> (*workspaces)();
  /// Whether oneDNN has bf16 products here; where not, they are emulated by fp32 products.
  bool (*multiplies_bf16)();
  PeakRate (*measure_peak)(PeakKind kind, int rounds);
};

}  // namespace strand

#define STRAND_CPU_LEVEL_FUNCTION_OF(level) strand_cpu_level_##level
/// The name of the function that returns a level: strand_cpu_level_avx2 for avx2.
#define STRAND_CPU_LEVEL_FUNCTION(level) STRAND_CPU_LEVEL_FUNCTION_OF(level)
