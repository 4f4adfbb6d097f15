#include "core/available_memory.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include "core/error.h"

namespace strand {

namespace {
/// The number after `key` in a file of "key value" lines, or `missing`.
uint64_t value_after(const std::string& path, const std::string& key, uint64_t missing) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string word;
    uint64_t value = 0;
    if (words >> word >> value && word == key) return value;
  }
  return missing;
}

/// Returns false when there is no such file, or when it does not hold a number ("max" means no limit).
bool read_number(const std::string& path, uint64_t& value) {
  std::ifstream file(path);
  return static_cast<bool>(file >> value);
}

/// The names of the same files in the two versions of control groups.
struct GroupFiles {
  const char *limit, *usage, *inactive, *active;
};
constexpr GroupFiles version_1{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file",
                               "total_active_file"};
constexpr GroupFiles version_2{"memory.max", "memory.current", "inactive_file", "active_file"};

/// Lowers `available` to what the limit of the group at `directory` leaves, where the group has a limit.
void apply_limit(const std::string& directory, const GroupFiles& files, AvailableMemory& available) {
  uint64_t limit = 0, usage = 0;
  const std::string limit_file = directory + "/" + files.limit;
  if (!read_number(limit_file, limit) || !read_number(directory + "/" + files.usage, usage)) return;
  const std::string statistics = directory + "/memory.stat";
  const uint64_t cached = value_after(statistics, files.inactive, 0) + value_after(statistics, files.active, 0);
  const uint64_t used = usage - std::min(usage, cached);
  const uint64_t room = limit - std::min(limit, used);
  if (room < available.bytes) available = {room, limit_file};
}

/// Applies the limits of a group and of all groups above it. In a container the path may be a path of the host, of
/// which only the root exists in the container.
void apply_limits_upwards(const std::string& root, std::string path, const GroupFiles& files,
                          AvailableMemory& available) {
  while (!path.empty() && path != "/") {
    apply_limit(root + path, files, available);
    path.erase(std::min(path.find_last_of('/'), path.size()));
  }
  apply_limit(root, files, available);
}
}  // namespace

AvailableMemory available_memory(const std::string& proc, const std::string& cgroups) {
  constexpr uint64_t absent = UINT64_MAX;
  const std::string meminfo = proc + "/meminfo";
  const uint64_t kib = value_after(meminfo, "MemAvailable:", absent);
  require(kib < absent / 1024, "{} has no usable MemAvailable: cannot tell how much memory is free", meminfo);
  AvailableMemory available{kib * 1024, "MemAvailable of " + meminfo};
  std::ifstream groups(proc + "/self/cgroup");
  std::string line;  // "4:memory:/path" (version 1) or "0::/path" (version 2)
  while (std::getline(groups, line)) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = fmt::format(",{},", line.substr(first + 1, second - first - 1));
    const std::string path = line.substr(second + 1);
    if (controllers == ",,") apply_limits_upwards(cgroups, path, version_2, available);
    if (controllers.find(",memory,") != std::string::npos)
      apply_limits_upwards(cgroups + "/memory", path, version_1, available);
  }
  return available;
}

AvailableMemory share_of(const AvailableMemory& available, int processes) {
  if (processes == 1) return available;
  return {available.bytes / static_cast<uint64_t>(processes),
          fmt::format("each of {} processes' share of {}", processes, available.source)};
}

}  // namespace strand
