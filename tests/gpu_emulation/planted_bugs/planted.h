#pragma once
// Which bug is planted in this run. Copies of the kernels' sources (plant_bugs.cpp) ask where they have one.

namespace gpu_emulation {

/// Whether it is bug number `bug` of the list (kernel_bugs.h). The environment variable STRAND_PLANTED_BUG names one by
/// its number; without it, none is planted.
bool planted(int bug);

}  // namespace gpu_emulation
