#pragma once
// Checks that planned memory fits into what this process may have, before anything large is allocated. Linux hands out
// more memory than there is and kills the process that touches it, so nobody could find out later.
#include "core/available_memory.h"
#include "model/session.h"

namespace strand {

/// What a user may do when there is not enough memory.
struct MemoryRemedy {
  std::string model;    ///< when there is none for the model alone
  std::string batches;  ///< when there is none for the rest
};
/// The keys of a configuration that make training smaller.
const MemoryRemedy& training_remedy();

/// Throws Error that names what is needed, what is there and what to do, unless the plan fits.
void check_memory(const SessionPlan& plan, const AvailableMemory& available, const MemoryRemedy& remedy);

/// What each of `local_ranks` processes on one host may take of its device. That is an equal share where devices use
/// the host's memory, and everything where each process has a device with memory of its own.
AvailableMemory available_to_rank(const Device& device, int local_ranks);

/// Checks that host memory also holds the copy of one rank's share of weights and moments from which checkpoints are
/// written. The copy lies beside the planned memory where the device uses the host's. Throws Error that names both
/// numbers.
void check_snapshot_memory(const SessionPlan& plan, int ranks, const Device& device, int local_ranks);

}  // namespace strand
