#pragma once
// A table of devices for which a layout may be planned, with the round numbers of their vendors. They are good enough
// to choose between layouts, and do not promise a speed. Every number can be replaced (`strand plan --flops ...`).
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/device.h"

namespace strand {

/// The device of one rank, and its links. Rates are peaks. Bandwidths are those of one direction.
struct DeviceSpec {
  std::string name;
  double bf16_flops = 0;  ///< FLOP/s of dense matrix products, no sparsity, summed in fp32
  double fp32_flops = 0;  ///< FLOP/s of fp32 arithmetic, no tensor cores
  double memory_bytes = 0;
  double memory_bandwidth = 0;   ///< bytes/s
  double link_bandwidth = 0;     ///< bytes/s that it can send to devices of its own host
  double network_bandwidth = 0;  ///< bytes/s that it can send to other hosts
  double message_seconds = 0;    ///< latency of one message
  int64_t per_host = 1;
  DeviceTraits traits;  ///< what buffers look like on it
};

/// The device of that name ("a100", "h100", "h200", "b200"). Throws Error that lists the names.
DeviceSpec find_device(const std::string& name);
std::vector<std::string> device_names();

/// What was measured on this machine.
struct CpuHost {
  double bf16_flops = 0, fp32_flops = 0;  ///< measured, all threads
  double memory_bytes = 0;
  DeviceTraits traits;
};

/// The part of a machine like this one that each of `ranks` processes gets, when they share it equally. Bandwidths are
/// not measured; device_table.cpp says what is assumed.
DeviceSpec cpu_device(const CpuHost& host, int64_t ranks);

}  // namespace strand
