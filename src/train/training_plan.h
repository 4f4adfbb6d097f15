#pragma once
// What training takes of one rank, memory and work, from one run of its real step on paper (plan_session).
#include "model/session.h"

namespace strand {

/// The session that trains a configuration.
SessionShape training_shape(const Config& config);

/// One optimizer step of `micro_steps` micro-batches that all are as large as `shape` says, at one place of a grid. The
/// memory also suffices for validation, and for steps that measure every term; the work is that of a step that is not
/// logged. Where data decides how many rows a rank's experts get, they are shared as evenly as can be. The vocabulary's
/// size is known. Allocates no memory for weights or activations.
SessionPlan plan_training(const Config& config, const SessionShape& shape, const DeviceTraits& device,
                          const GridShape& grid = {}, int64_t micro_steps = 1);

/// The same for the configuration's own batch. Throws Error when the batch or the experts do not divide.
SessionPlan plan_training(const Config& config, const DeviceTraits& device, const GridShape& grid = {});

/// The same for a session on these operations, in this grid.
SessionPlan plan_training(const Config& config, const SessionShape& shape, const Ops& ops, const ProcessGrid& grid);

}  // namespace strand
