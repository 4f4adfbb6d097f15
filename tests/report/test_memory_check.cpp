// How much memory there is, from made-up system files, and what is said when it is not enough.
#include "../checkpoint/fixtures.h"
#include "kernels/host_device.h"
#include "kernels/ops.h"
#include "model/memory_check.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {
constexpr uint64_t mib = uint64_t{1} << 20;

/// /proc and /sys/fs/cgroup of a machine with 4 GiB available.
struct System {
  TemporaryDirectory directory;
  std::string proc = directory / "proc";
  std::string cgroups = directory / "cgroup";

  System() { write("proc/meminfo", "MemTotal:       16777216 kB\nMemAvailable:    4194304 kB\n"); }
  void write(const std::string& name, const std::string& text) {
    fs::create_directories(fs::path(directory / name).parent_path());
    put(directory / name, text);
  }
  AvailableMemory available() const { return available_memory(proc, cgroups); }
};

SessionPlan plan_of(size_t model, size_t step, size_t scratch) {
  SessionPlan plan;
  plan.model.bytes = model;
  plan.step.bytes = step;
  plan.scratch.bytes = scratch;
  return plan;
}
}  // namespace

TEST_CASE("without control groups it is what the machine has left") {
  const System system;
  CHECK(system.available().bytes == 4096 * mib);
  CHECK_THAT(system.available().source, Contains("MemAvailable"));
}

TEST_CASE("a limit of control groups version 2 counts, cached files do not") {
  System system;
  system.write("proc/self/cgroup", "0::/jobs/mine\n");
  system.write("cgroup/jobs/mine/memory.max", "max\n");
  system.write("cgroup/jobs/memory.max", std::to_string(1000 * mib));
  system.write("cgroup/jobs/memory.current", std::to_string(600 * mib));
  system.write("cgroup/jobs/memory.stat", "anon 1\ninactive_file " + std::to_string(200 * mib) + "\nactive_file " +
                                              std::to_string(100 * mib) + "\n");
  CHECK(system.available().bytes == 700 * mib);
  CHECK_THAT(system.available().source, Contains("jobs/memory.max"));
}

TEST_CASE("so does one of version 1, also where only the root of the hierarchy is visible") {
  System system;
  system.write("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n");
  system.write("cgroup/memory/memory.limit_in_bytes", std::to_string(512 * mib));
  system.write("cgroup/memory/memory.usage_in_bytes", std::to_string(500 * mib));
  CHECK(system.available().bytes == 12 * mib);
  system.write("cgroup/memory/memory.usage_in_bytes", std::to_string(600 * mib));  // may be over for a moment
  CHECK(system.available().bytes == 0);
}

TEST_CASE("a system that does not tell is an error") {
  const TemporaryDirectory empty;
  CHECK_THAT(error_of([&] { available_memory(empty.path(), empty.path()); }), Contains("MemAvailable"));
}

TEST_CASE("this machine has some memory left") {
  CHECK(available_memory().bytes > 0);
}

TEST_CASE("a plan that fits passes, to the byte") {
  const AvailableMemory available{100, "test"};
  CHECK_NOTHROW(check_memory(plan_of(60, 30, 10), available, training_remedy()));
  CHECK_THROWS_AS(check_memory(plan_of(60, 30, 11), available, training_remedy()), Error);
}

TEST_CASE("a plan that does not fit is refused with what would help") {
  const AvailableMemory available{1024 * mib, "the limit of a test"};
  const std::string activations =
      error_of([&] { check_memory(plan_of(512 * mib, 1024 * mib, 0), available, training_remedy()); });
  CHECK_THAT(activations, Contains("1.50 GiB needed") && Contains("1.00 GiB available (the limit of a test)") &&
                              Contains("train.micro_batch_size") && Contains("data.sequence_length") &&
                              Contains("train.recompute"));
  const std::string model = error_of([&] { check_memory(plan_of(2048 * mib, 1, 1), available, training_remedy()); });
  CHECK_THAT(model, Contains("2.00 GiB") && Contains("smaller model") && !Contains("train.recompute"));
}

namespace {
/// A device with 100 bytes, of its own or of the host.
class SmallDevice final : public HostDevice {
 public:
  explicit SmallDevice(bool shares) : shares_(shares) {}
  const char* name() const override { return "small"; }
  DeviceTraits traits() const override { return {}; }
  std::unique_ptr<Ops> make_ops() override { return nullptr; }
  AvailableMemory available_memory() const override { return {100, "a test"}; }
  bool shares_host_memory() const override { return shares_; }
  PeakRate measure_peak(PeakKind, int) override { return {}; }
  std::string description() const override { return ""; }

 private:
  bool shares_;
};
}  // namespace

TEST_CASE("processes of a host share its memory, and have each a GPU's for themselves") {
  CHECK(available_to_rank(SmallDevice(true), 4).bytes == 25);
  CHECK(available_to_rank(SmallDevice(false), 4).bytes == 100);
}

TEST_CASE("the copy that checkpoints are written from lies in host memory, whosever the model's is") {
  SessionPlan plan = plan_of(80, 0, 0);
  plan.parameters = 2;                                                           // 24 bytes of weights and moments
  CHECK_THROWS_AS(check_snapshot_memory(plan, 1, SmallDevice(true), 1), Error);  // 80 + 24 > 100
  CHECK_NOTHROW(check_snapshot_memory(plan, 2, SmallDevice(true), 1));           // 80 + 12
  CHECK_NOTHROW(check_snapshot_memory(plan, 1, SmallDevice(false), 1));          // the host has more than 24 bytes
  plan.parameters = int64_t{1} << 50;
  CHECK(error_of([&] { check_snapshot_memory(plan, 1, SmallDevice(false), 1); }).find("on the host") !=
        std::string::npos);
}
