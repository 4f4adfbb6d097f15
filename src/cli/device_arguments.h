#pragma once
// `--device NAME` of `strand plan`, and the options that replace numbers of that device.
#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "config/config.h"
#include "report/device_table.h"

namespace strand::cli {

struct DeviceArguments {
  std::string name;  ///< a name of the table, or "cpu" (this machine, measured); "" = no estimate
  double efficiency = 0.5;
  std::optional<double> flops, memory, memory_bandwidth, link, network, message_seconds;
  std::optional<int64_t> ranks_per_host;

  /// Throws Error for an unknown name. "cpu" takes a moment, because it measures this machine's arithmetic.
  DeviceSpec device(const RunConfig& run, int64_t ranks) const;
};

/// `arguments` outlives the parse.
void add_device_arguments(CLI::App& command, DeviceArguments& arguments);

}  // namespace strand::cli
