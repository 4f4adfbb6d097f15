#pragma once
// The measurement behind measure_peak(), compiled for one level.
#include "kernels/device.h"

namespace strand {

/// Multiply-adds on registers only, with the instructions of this level, on as many OpenMP threads as a parallel region
/// gets: the best of several rounds of 30 ms, as other work on the machine only takes away. A round begins when all
/// threads have met, so waking them is not in it. bf16: AVX512-BF16 dot products where the level has them, otherwise
/// the fp32 rate, as that is what bf16 products then run at. Where oneDNN multiplies on the tiles of AMX, whose rate is
/// far above that of registers, the rate of a large product of oneDNN stands for it.
PeakRate measure_peak_here(PeakKind kind, int rounds);

}  // namespace strand
