#pragma once
// Before anything large is allocated: does what the plan says fit into what this process may have? Linux hands out
// memory that it does not own and kills the process that touches it, so the question is asked first.
#include "core/available_memory.h"
#include "model/session.h"

namespace strand {

/// Throws Error naming what is needed, what is there and which keys to change, unless the plan fits.
void check_memory(const SessionPlan& plan, const AvailableMemory& available);

/// The same with a copy of one rank's share of weights and moments beside it, that checkpoints are written from.
void check_snapshot_memory(const SessionPlan& plan, int ranks, const AvailableMemory& available);

}  // namespace strand
