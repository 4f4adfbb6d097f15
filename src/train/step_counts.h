#pragma once
// What one whole optimizer step does, counted by running it: every micro-step, the norm and the update, on the plan
// backend, which computes nothing, as on such a device, at one place of a grid that exists on paper.
#include "config/config.h"
#include "model/step_work.h"

namespace strand {

/// FLOPs, bytes and calls by operation family and traffic by group, of one optimizer step of one rank that is not
/// logged. Where data
/// decides how many rows a rank's experts get, they are shared as evenly as can be. The vocabulary's size is known.
/// Allocates no memory for weights or activations. Throws Error when the batch or the experts do not divide.
StepWork count_step(const Config& config, const DeviceTraits& device, const GridShape& grid = {});

}  // namespace strand
