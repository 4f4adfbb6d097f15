#pragma once
// How much memory this process may still take, as the operating system sees it.
#include <cstdint>
#include <string>

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

}  // namespace strand
