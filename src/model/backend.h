#pragma once
// Makes the device that a configuration names.
#include <memory>

#include "config/config.h"
#include "kernels/device.h"
#include "kernels/ops.h"

namespace strand {

/// Makes the device of run.device. A CPU gets run.threads OpenMP threads (0 = every core that this process may use). Of
/// several GPUs it is the one with the number `local_rank`; where this process sees only one, it is that one. Throws
/// Error when this build has no such device, or this machine has none.
std::unique_ptr<Device> make_device(const RunConfig& run, const CudaConfig& cuda = {}, int local_rank = 0);

}  // namespace strand
