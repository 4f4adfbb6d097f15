#pragma once
// How much memory this process may still take, as the operating system sees it.
#include <cstdint>
#include <string>

namespace strand {

struct AvailableMemory {
  uint64_t bytes = 0;
  std::string source;  ///< who sets the limit, for messages: "MemAvailable of /proc/meminfo"
};

/// The smallest of two amounts: what the machine has left (MemAvailable), and what the limits of this process's control
/// groups leave. Control groups may be of version 1 or 2; the group of the process and all groups above it count, and
/// cached pages of files count as free. The arguments say where the system's files are; tests give other places. Throws
/// Error when /proc/meminfo cannot be read.
AvailableMemory available_memory(const std::string& proc = "/proc", const std::string& cgroups = "/sys/fs/cgroup");

/// The part of `available` that each of `processes` processes of this machine may take.
AvailableMemory share_of(const AvailableMemory& available, int processes);

}  // namespace strand
