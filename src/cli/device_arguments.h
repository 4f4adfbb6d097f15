#pragma once
// `--device NAME` and what replaces its numbers, as `strand plan` takes them.
#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "config/config.h"
#include "report/device_table.h"

namespace strand::cli {

struct DeviceArguments {
  std::string name;  ///< of the table, or "cpu": this machine, measured; "" = no estimate is wanted
  double efficiency = 0.5;
  std::optional<double> flops, memory, memory_bandwidth, link, network, message_seconds;
  std::optional<int64_t> ranks_per_host;

  /// Throws Error for an unknown name. "cpu" takes a moment: it measures this machine's arithmetic.
  DeviceSpec device(const RunConfig& run, int64_t ranks) const;
};

/// `arguments` outlives the parse.
void add_device_arguments(CLI::App& command, DeviceArguments& arguments);

}  // namespace strand::cli
