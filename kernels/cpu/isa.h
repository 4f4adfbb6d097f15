#pragma once
// Which level of instruction sets the CPU kernels run on. A build holds its kernels for several of them; the highest
// that this CPU has is chosen at the first use, or the one that the environment variable STRAND_ISA names. oneDNN makes
// the same choice for matrix products; STRAND_ISA limits it alike, so that a lower level computes here what it computes
// on a CPU that has no more.
#include <span>
#include <string>

#include "kernels/cpu/level.h"

namespace strand {

/// What this CPU has and the operating system supports.
CpuTier cpu_tier();

/// The levels of this build, in ascending order.
std::span<const CpuLevel* const> cpu_levels();

/// The one of `levels` (ascending) to run on a CPU of `tier`: the one named `wanted`, or the highest when `wanted` is
/// empty. Throws Error when there is no such level, or when the CPU does not have it.
const CpuLevel& choose_cpu_level(std::span<const CpuLevel* const> levels, CpuTier tier, const std::string& wanted);

/// The level of this process, from cpu_tier() and STRAND_ISA; the first call decides. Throws Error as above.
const CpuLevel& cpu_level();

/// For people, and equal where the same operations give the same bits: "avx512, products avx512_core".
std::string cpu_isa_text();

/// One line for people when bf16 products are no faster than fp32 ones here, else "".
std::string bf16_remark();

}  // namespace strand
