#pragma once
// How many cores a process may use: what "all cores" means, to every command.
#include <sched.h>

#include <limits>
#include <string>
#include <vector>

namespace strand {

/// A set of the host's logical CPUs; room for the most that a Linux kernel can have.
struct CpuSet {
  static constexpr size_t most_cpus = 8192;
  std::vector<unsigned long> bits = std::vector<unsigned long>(most_cpus / (8 * sizeof(unsigned long)));

  int count() const;
  bool operator==(const CpuSet&) const = default;
};

/// The CPUs on which a process (0: this one) may run. Throws Error when the system does not tell.
CpuSet affinity_of(pid_t process);

constexpr int no_limit = std::numeric_limits<int>::max();

/// CPUs' worth of time that the process's control groups (version 1 and 2, those above included) give it, rounded up,
/// at least 1; no_limit without a quota. The directories are for tests.
int quota_cores(const std::string& proc = "/proc", const std::string& cgroups = "/sys/fs/cgroup");

/// The smaller of OMP_NUM_THREADS (of its list, the first) and OMP_THREAD_LIMIT; no_limit where they are not set, or
/// hold something else than a number above 0.
int environment_threads();

/// Cores that this process may use: those that its affinity has, but no more than the quota.
int available_cores();

/// The threads of a process that was asked for `asked`: that many; 0 asks for all, which is available_cores(), but no
/// more than environment_threads().
int threads_for(int asked);

}  // namespace strand
