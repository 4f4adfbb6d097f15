#pragma once
// Before anything large is allocated: does what the plan says fit into what this process may have? Linux hands out
// memory that it does not own and kills the process that touches it, so the question is asked first.
#include <cstdint>
#include <string>

#include "model/session.h"

namespace strand {

struct AvailableMemory {
  uint64_t bytes = 0;
  std::string source;  ///< who sets the limit, for messages: "MemAvailable of /proc/meminfo"
};

/// The least of what the machine has left (MemAvailable) and of what the limits of this process's control groups leave
/// (versions 1 and 2, each group and those above it; cached file pages count as free). The arguments are where the
/// system's files are. Throws Error when /proc/meminfo cannot be read.
AvailableMemory available_memory(const std::string& proc = "/proc", const std::string& cgroups = "/sys/fs/cgroup");

/// What each of `processes` that share it may have.
AvailableMemory share_of(const AvailableMemory& available, int processes);

/// Throws Error naming what is needed, what is there and which keys to change, unless the plan fits.
void check_memory(const SessionPlan& plan, const AvailableMemory& available);
void check_memory(const SessionPlan& plan);

/// The same with a copy of one rank's share of weights and moments beside it, that checkpoints are written from.
void check_snapshot_memory(const SessionPlan& plan, int ranks, const AvailableMemory& available);

}  // namespace strand
