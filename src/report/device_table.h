#pragma once
// Devices that a layout may be planned for, in round vendor numbers: enough to choose between layouts, not to promise a
// speed. Every number can be replaced (`strand plan --flops ...`).
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/device.h"

namespace strand {

/// One rank's device and its links. Rates are peaks; bandwidths are of one direction.
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

/// "h100", "h200", "a100", "b200". Throws Error naming those there are.
DeviceSpec find_device(const std::string& name);
std::vector<std::string> device_names();

/// What was found out about the machine that asks.
struct CpuHost {
  double bf16_flops = 0, fp32_flops = 0;  ///< measured, all threads
  double memory_bytes = 0;
  DeviceTraits traits;
};

/// One of `ranks` processes that share a machine like this one, each an equal part. Bandwidths are stated, not
/// measured: device_table.cpp.
DeviceSpec cpu_device(const CpuHost& host, int64_t ranks);

}  // namespace strand
