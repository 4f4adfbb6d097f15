#pragma once
// The arithmetic limit of all ranks together.
#include "kernels/device.h"
#include "parallel/communicator.h"

namespace strand {

/// FLOP/s of all ranks at once: they measure at the same time, as those of one host share its cores, and the best sum
/// of several rounds counts. All ranks of the group call it and get the same; 0 when
/// a device cannot tell.
double measure_peak_of_ranks(Device& device, Communicator& group, PeakKind kind, int rounds = 7);

}  // namespace strand
