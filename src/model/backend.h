#pragma once
// From the configuration to a device.
#include <memory>

#include "config/config.h"
#include "kernels/device.h"
#include "kernels/ops.h"

namespace strand {

/// The device of run.device; on the CPU with run.threads OpenMP threads (0 = every core that this process may use),
/// on a GPU as `cuda` says: the one with the number `local_rank`, or the only one that this process can see.
/// Throws Error when this build has no such device, or this machine has none.
std::unique_ptr<Device> make_device(const RunConfig& run, const CudaConfig& cuda = {}, int local_rank = 0);

}  // namespace strand
