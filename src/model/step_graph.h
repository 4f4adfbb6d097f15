#pragma once
// Whether the training step of a run is one CUDA graph (Device::run), which is recorded once and then launched whole.
#include <string>

#include "config/config.h"
#include "parallel/process_grid.h"

namespace strand {

/// Says in a few words that follow "because" why the step is no graph, or "" when it is one. A graph can hold neither
/// waits of the host nor messages whose end the watchdog has to see, and what it holds is the same in every step.
std::string no_step_graph_because(const Config& config, const GridShape& grid);

}  // namespace strand
