#pragma once
// mma.sync and ldmatrix: operations of a whole warp on the registers of all its lanes.
#include "gpu_emulation/device_hooks.h"

namespace gpu_emulation {

/// The last lane has come: computes for all. `fragments[lane]` is what the lane gave to tensor_core_operation.
void compute_tensor_core(WarpKind kind, void* const (&fragments)[32], unsigned lanes);
/// The running thread takes part in mma or ldmatrix (warp.cpp).
void tensor_core_operation(WarpKind kind, void* fragments, Site site);

}  // namespace gpu_emulation
