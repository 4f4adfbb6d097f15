#pragma once
// Runs the blocks of a launch.
#include "gpu_emulation/device_hooks.h"

namespace gpu_emulation {

/// Runs all blocks, in the order of the seed. Returns how it ended.
cudaError_t run_grid(const LaunchShape& shape, const KernelCall& call);

/// Where the parameters of the running kernel lie.
const KernelCall* current_call();

}  // namespace gpu_emulation
