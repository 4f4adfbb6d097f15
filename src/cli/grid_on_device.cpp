#include "cli/grid_on_device.h"

#include "parallel/device_grid.h"

namespace strand::cli {

std::unique_ptr<ProcessGrid> grid_on_device(Processes& processes, const ParallelConfig& parallel, Device& device) {
  const auto watchdog_seconds = static_cast<double>(parallel.watchdog_seconds);
  std::unique_ptr<ProcessGrid> grid = processes.grid(parallel.expert_parallel, watchdog_seconds);
  move_to_device(*grid, device,
                 {.order = parallel.deterministic ? SumOrder::of_ranks : SumOrder::of_library,
                  .watchdog_seconds = watchdog_seconds,
                  .end_all_ranks = [&processes](int code) { processes.abort(code); }});
  return grid;
}

}  // namespace strand::cli
