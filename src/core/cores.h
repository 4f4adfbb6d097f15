#pragma once
// How many cores a process may use. This is what "all cores" means in every command.
#include <sched.h>

#include <limits>
#include <string>
#include <vector>

namespace strand {

/// A set of the host's logical CPUs. It has room for as many CPUs as a Linux kernel can have.
struct CpuSet {
  static constexpr size_t most_cpus = 8192;
  std::vector<unsigned long> bits = std::vector<unsigned long>(most_cpus / (8 * sizeof(unsigned long)));

  int count() const;
  bool operator==(const CpuSet&) const = default;
};

/// The CPUs on which a process (0: this one) may run. Throws Error when the system does not tell.
CpuSet affinity_of(pid_t process);

constexpr int no_limit = std::numeric_limits<int>::max();

/// The CPU quota of the process's control groups, in CPUs: the lowest of the quotas of its group and of all groups
/// above, in version 1 or 2, rounded up, and at least 1. no_limit where there is no quota. The directories are
/// arguments so that tests can give others.
int quota_cores(const std::string& proc = "/proc", const std::string& cgroups = "/sys/fs/cgroup");

/// The smaller of OMP_NUM_THREADS and OMP_THREAD_LIMIT. OMP_NUM_THREADS may be a list, of which the first number
/// counts. A variable that is not set, or that holds anything but a number above 0, sets no limit (no_limit).
int environment_threads();

/// Cores that this process may use: as many as its affinity has, and not more than its quota.
int available_cores();

/// The number of threads that a process takes when the user asked for `asked`. 0 asks for all: available_cores(), and
/// not more than environment_threads(). Any other number is taken as it is.
int threads_for(int asked);

}  // namespace strand
