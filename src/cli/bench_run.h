#pragma once
// Runs and times training steps on random tokens.
#include <cstdint>
#include <string>

#include "config/config.h"
#include "kernels/device.h"
#include "parallel/process_grid.h"
#include "report/bench_report.h"

namespace strand::cli {

enum class MeasureOverhead : uint8_t { no, yes };

struct BenchOptions {
  int64_t steps = 10;    ///< timed, un-profiled
  int64_t warmup = 2;    ///< before them, untimed
  int64_t profiled = 3;  ///< after them, to see where the time goes
  MeasureOverhead losses_overhead = MeasureOverhead::no;
  int local_ranks = 1;               ///< processes of the run that share this host's memory
  std::string checkpoint_directory;  ///< write one checkpoint below it, in the background; "" = none
};

/// What a result will be comparable to.
BenchSetup bench_setup(const Config& config, const Device& device, int ranks);

/// Every step is a whole optimizer step on fresh random tokens, of which each rank of `grid` has its part: forward and
/// backward of each micro-batch, clipping and update, at the configuration's learning rate. Making the tokens is not
/// timed. All ranks call it; the first one's result is the one to report. Throws Error when the batch does not divide,
/// the plan does not fit into memory or a loss is not finite.
BenchReport run_bench(const Config& config, const BenchOptions& options, Device& device, ProcessGrid& grid);

}  // namespace strand::cli
