#pragma once
// What one whole optimizer step does, counted by running it: every micro-step, the norm and the update, on the plan
// backend, which computes nothing.
#include "config/config.h"
#include "kernels/plan/plan_ops.h"

namespace strand {

/// FLOPs, bytes and calls by operation family of one optimizer step of one process that sees the whole global batch.
/// The vocabulary's size is known. Allocates no memory for weights or activations.
PlanCounts count_step(const Config& config);

}  // namespace strand
