#pragma once
// The measurement behind measure_peak(), compiled for one level.
#include "kernels/cpu/peak.h"

namespace strand {

PeakRate measure_peak_here(PeakKind kind, int rounds);

}  // namespace strand
