// What "all cores" means: affinity, control groups and OpenMP's variables.
#include <sched.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "core/cores.h"
#include "core/error.h"
#include "tests/catch.h"

using namespace strand;
namespace fs = std::filesystem;

namespace {
/// A /proc and a /sys/fs/cgroup with these files, by their paths below one folder.
class Groups {
 public:
  explicit Groups(const std::map<std::string, std::string>& files) {
    std::string name = (fs::temp_directory_path() / "strand_groups_XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) fail_errno("create", name);
    root_ = name;
    for (const auto& [path, text] : files) {
      fs::create_directories((root_ / path).parent_path());
      std::ofstream(root_ / path) << text;
    }
  }
  ~Groups() { fs::remove_all(root_); }
  Groups(const Groups&) = delete;
  Groups& operator=(const Groups&) = delete;
  int cores() const { return quota_cores((root_ / "proc").string(), (root_ / "cgroup").string()); }

 private:
  fs::path root_;
};

class Environment {
 public:
  Environment(const char* threads, const char* limit) {
    set("OMP_NUM_THREADS", threads);
    set("OMP_THREAD_LIMIT", limit);
  }
  static void set(const char* name, const char* value) { value == nullptr ? unsetenv(name) : setenv(name, value, 1); }
};
}  // namespace

TEST_CASE("Quotas of version 2, of a group and of those above it") {
  const std::string mine = "0::/a/b\n";
  CHECK(Groups({{"proc/self/cgroup", mine}}).cores() == no_limit);
  CHECK(Groups({{"proc/self/cgroup", mine}, {"cgroup/a/b/cpu.max", "max 100000\n"}}).cores() == no_limit);
  CHECK(Groups({{"proc/self/cgroup", mine}, {"cgroup/a/b/cpu.max", "300000 100000\n"}}).cores() == 3);
  CHECK(Groups({{"proc/self/cgroup", mine}, {"cgroup/a/b/cpu.max", "150000 100000\n"}}).cores() == 2);
  CHECK(Groups({{"proc/self/cgroup", mine}, {"cgroup/a/b/cpu.max", "10000 100000\n"}}).cores() == 1);
  CHECK(Groups(
            {{"proc/self/cgroup", mine}, {"cgroup/a/b/cpu.max", "max 100000\n"}, {"cgroup/a/cpu.max", "50000 25000\n"}})
            .cores() == 2);
  // A container that sees its own group as the root, and the host's path of it.
  CHECK(Groups({{"proc/self/cgroup", mine}, {"cgroup/cpu.max", "400000 100000\n"}}).cores() == 4);
  CHECK(Groups({{"proc/self/cgroup", "0::/\n"}, {"cgroup/cpu.max", "400000 100000\n"}}).cores() == 4);
}

TEST_CASE("Quotas of version 1") {
  const std::string mine = "5:memory:/m\n3:cpu,cpuacct:/docker/x\n2:cpuset:/docker/x\n";
  CHECK(Groups({{"proc/self/cgroup", mine},
                {"cgroup/cpu/docker/x/cpu.cfs_quota_us", "250000\n"},
                {"cgroup/cpu/docker/x/cpu.cfs_period_us", "100000\n"}})
            .cores() == 3);
  CHECK(Groups({{"proc/self/cgroup", mine},
                {"cgroup/cpu/docker/x/cpu.cfs_quota_us", "-1\n"},
                {"cgroup/cpu/docker/x/cpu.cfs_period_us", "100000\n"},
                {"cgroup/cpu/cpu.cfs_quota_us", "100000\n"},
                {"cgroup/cpu/cpu.cfs_period_us", "50000\n"}})
            .cores() == 2);
}

TEST_CASE("Files of control groups that say nothing of use are no limit") {
  CHECK(Groups({{"proc/self/cgroup", "nonsense\n0::/\n"}, {"cgroup/cpu.max", "-1 x\n"}}).cores() == no_limit);
  CHECK(Groups({{"proc/self/cgroup", "0::/\n"}, {"cgroup/cpu.max", "100000 0\n"}}).cores() == no_limit);
  CHECK(Groups({}).cores() == no_limit);
}

TEST_CASE("OpenMP's variables limit what all cores are") {
  struct Case {
    const char *threads, *limit;
    int expected;
  };
  for (const Case& c : {Case{"3", nullptr, 3}, Case{" 4,2", nullptr, 4}, Case{nullptr, "5", 5}, Case{"8", "2", 2},
                        Case{nullptr, nullptr, no_limit}, Case{"", "", no_limit}, Case{"0", "-2", no_limit},
                        Case{"two", "3x", no_limit}, Case{"99999999999", nullptr, no_limit}}) {
    const Environment environment(c.threads, c.limit);
    CHECK(environment_threads() == c.expected);
  }
  const Environment one("1", nullptr);
  CHECK(threads_for(0) == 1);
  CHECK(threads_for(7) == 7);
  const Environment many("100000", nullptr);
  CHECK(threads_for(0) == available_cores());
}

TEST_CASE("Affinity is the most that a process has") {
  const CpuSet before = affinity_of(0);
  CHECK(before.count() >= 1);
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (before.bits[static_cast<size_t>(cpu) / 64] >> (cpu % 64) & 1u) {
      CPU_SET(cpu, &one);
      break;
    }
  REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK(affinity_of(0).count() == 1);
  CHECK(available_cores() == 1);
  REQUIRE(sched_setaffinity(0, before.bits.size() * 8, reinterpret_cast<const cpu_set_t*>(before.bits.data())) == 0);
  CHECK(affinity_of(0) == before);
}
