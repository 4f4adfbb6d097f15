#include "core/cores.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string_view>

#include "core/error.h"

namespace strand {

namespace {
/// The first number in "4", " 4" or "4,2". For anything else, and for numbers that are not above 0, no_limit.
int first_number(const char* value) {
  std::string_view text = value == nullptr ? "" : value;
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const char next = end == text.data() + text.size() ? ' ' : *end;
  return error == std::errc() && number > 0 && (next == ' ' || next == ',' || next == '\t') ? number : no_limit;
}

int cores_of(double quota, double period) {
  if (!(quota > 0) || !(period > 0)) return no_limit;
  return static_cast<int>(std::clamp(std::ceil(quota / period), 1.0, static_cast<double>(no_limit)));
}

/// The file holds "150000 100000" (quota and period), or "max 100000" where there is no limit.
int quota_of_version_2(const std::string& directory) {
  std::ifstream file(directory + "/cpu.max");
  double quota = 0, period = 0;
  return file >> quota >> period ? cores_of(quota, period) : no_limit;
}

/// A quota of -1 means that there is none.
int quota_of_version_1(const std::string& directory) {
  double quota = 0, period = 0;
  std::ifstream quota_file(directory + "/cpu.cfs_quota_us"), period_file(directory + "/cpu.cfs_period_us");
  return quota_file >> quota && period_file >> period ? cores_of(quota, period) : no_limit;
}

/// The lowest limit of a group and of all groups above it. In a container the path may be a path of the host, of which
/// only the root exists in the container.
int lowest_upwards(const std::string& root, std::string path, int (*limit)(const std::string&)) {
  int lowest = limit(root);
  while (!path.empty() && path != "/") {
    lowest = std::min(lowest, limit(root + path));
    path.erase(std::min(path.find_last_of('/'), path.size()));
  }
  return lowest;
}
}  // namespace

int CpuSet::count() const {
  int sum = 0;
  for (const unsigned long word : bits) sum += std::popcount(word);
  return sum;
}

CpuSet affinity_of(pid_t process) {
  CpuSet set;
  const size_t bytes = set.bits.size() * sizeof(unsigned long);
  if (sched_getaffinity(process, bytes, reinterpret_cast<cpu_set_t*>(set.bits.data())) != 0)
    fail("cannot tell on which cores process {} may run: {}", process, std::strerror(errno));
  return set;
}

int quota_cores(const std::string& proc, const std::string& cgroups) {
  int lowest = no_limit;
  std::ifstream groups(proc + "/self/cgroup");
  std::string line;  // "4:cpu,cpuacct:/path" (version 1) or "0::/path" (version 2)
  while (std::getline(groups, line)) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = fmt::format(",{},", line.substr(first + 1, second - first - 1));
    const std::string path = line.substr(second + 1);
    if (controllers == ",,") lowest = std::min(lowest, lowest_upwards(cgroups, path, quota_of_version_2));
    if (controllers.find(",cpu,") != std::string::npos)
      lowest = std::min(lowest, lowest_upwards(cgroups + "/cpu", path, quota_of_version_1));
  }
  return lowest;
}

int environment_threads() {
  return std::min(first_number(std::getenv("OMP_NUM_THREADS")), first_number(std::getenv("OMP_THREAD_LIMIT")));
}

int available_cores() {
  return std::max(1, std::min(affinity_of(0).count(), quota_cores()));
}

int threads_for(int asked) {
  return asked > 0 ? asked : std::min(available_cores(), environment_threads());
}

}  // namespace strand
