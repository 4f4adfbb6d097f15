#pragma once
// The CPU backend as the rest of the program sees it. Its kernels are compiled several times, once for each level of
// instruction sets; which of them run is decided once, at the first use, by what the CPU has (isa.h).
#include <memory>

#include "kernels/ops.h"

namespace strand {

/// The CPU backend on the chosen level. Throws Error when STRAND_ISA names no level that this CPU and this build have.
std::unique_ptr<Ops> make_cpu_ops();

}  // namespace strand
