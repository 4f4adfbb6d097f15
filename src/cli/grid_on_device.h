#pragma once
// The processes of a command as a grid whose collectives run on its device.
#include <memory>

#include "config/config.h"
#include "kernels/device.h"
#include "parallel/launch.h"
#include "parallel/process_grid.h"

namespace strand::cli {

/// All processes call it. Throws Error when the layout does not fit their number, or when this program cannot run
/// several processes on such a device. `processes` outlives the grid.
std::unique_ptr<ProcessGrid> grid_on_device(Processes& processes, const ParallelConfig& parallel, Device& device);

}  // namespace strand::cli
