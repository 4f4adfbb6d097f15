#pragma once
// Counts of what a program has asked of the CUDA runtime, for tests of what a step must not do (control.h).
#include "gpu_emulation/control.h"

namespace gpu_emulation {

/// To be added to.
Counters& running_counters();

}  // namespace gpu_emulation
