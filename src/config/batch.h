#pragma once
// How the batch of an optimizer step is shared out.
#include "config/config.h"

namespace strand {

/// Micro-steps of each rank in one optimizer step. Throws Error that says what would do, unless the sequences divide
/// evenly.
int64_t micro_steps_per_rank(const TrainConfig& train, int64_t ranks);

}  // namespace strand
