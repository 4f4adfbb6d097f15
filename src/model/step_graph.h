#pragma once
// Whether the training step of a run is one CUDA graph (Device::run): enqueued once, and launched as one piece after.
#include <string>

#include "config/config.h"
#include "parallel/process_grid.h"

namespace strand {

/// Why it is not, in a few words that follow "because"; "" when it is. A graph can hold neither waits of the host nor
/// messages whose end the watchdog has to see, and replays what does not change from step to step.
std::string no_step_graph_because(const Config& config, const GridShape& grid);

}  // namespace strand
