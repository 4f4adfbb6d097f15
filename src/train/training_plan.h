#pragma once
// The memory and work of training on one rank, from one run of the real step on paper (plan_session).
#include "model/session.h"

namespace strand {

/// The shape of the session that trains a configuration.
SessionShape training_shape(const Config& config);

/// Plans one optimizer step of `micro_steps` micro-batches, all as large as `shape` says, at one place of a grid. The
/// memory also suffices for validation, and for steps that measure every term. The work is that of a step that is not
/// logged. Where data decides how many rows a rank's experts get, the rows are shared as evenly as can be. The size of
/// the vocabulary must be set. Allocates no memory for weights or activations.
SessionPlan plan_training(const Config& config, const SessionShape& shape, const DeviceTraits& device,
                          const GridShape& grid = {}, int64_t micro_steps = 1);

/// Plans the batch of the configuration. Throws Error when the batch or the experts do not divide.
SessionPlan plan_training(const Config& config, const DeviceTraits& device, const GridShape& grid = {});

/// Plans a session on these operations, in this grid.
SessionPlan plan_training(const Config& config, const SessionShape& shape, const Ops& ops, const ProcessGrid& grid);

}  // namespace strand
