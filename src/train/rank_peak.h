#pragma once
// The arithmetic limit of all ranks together.
#include "kernels/device.h"
#include "parallel/control_channel.h"

namespace strand {

/// FLOP/s of all ranks at once: they measure at the same time, as those of one host share its cores, and the best sum
/// of several rounds counts. All ranks call it and get the same number. It is 0 when a device cannot tell.
double measure_peak_of_ranks(Device& device, ControlChannel& hosts, PeakKind kind, int rounds = 7);

}  // namespace strand
