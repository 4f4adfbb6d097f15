#pragma once
// From the configuration to a backend.
#include <memory>

#include "config/config.h"
#include "kernels/ops.h"

namespace strand {

/// The backend of run.device. Sets the number of OpenMP threads to run.threads (0 = every core this process may use).
/// Throws Error when this build has no such backend.
std::unique_ptr<Ops> make_backend(const RunConfig& run);

}  // namespace strand
