// CudaDevice on an emulated GPU: copies in the order of streams, events, and steps that are captured into graphs.
#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "gpu_emulation/control.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/ops.h"
#include "tests/catch.h"

using namespace strand;

namespace {
Device& device() {
  static Device& the_device = *make_cuda_device({}).release();
  return the_device;
}
Ops& ops() {
  static Ops& the_ops = *device().make_ops().release();
  return the_ops;
}

std::string reports() {
  std::string text;
  for (const gpu_emulation::Report& report : gpu_emulation::take_reports()) text += report.kind + ": " + report.text;
  return text;
}

constexpr int64_t n = 300;

/// n floats on the device.
struct Floats {
  DeviceMemory memory{device(), MemoryKind::device, n * sizeof(float)};
  Tensor tensor() const { return memory.tensor(DType::f32, {n}); }
  std::vector<float> values() const {
    std::vector<float> host(n);
    device().download(tensor(), host.data());
    return host;
  }
  void set(float first) const {
    std::vector<float> host(n);
    std::iota(host.begin(), host.end(), first);
    device().upload(host.data(), tensor());
  }
};

std::vector<float> counting_from(float first) {
  std::vector<float> values(n);
  std::iota(values.begin(), values.end(), first);
  return values;
}
}  // namespace

TEST_CASE("what an event holds back comes after what it marks, in any order of streams") {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    gpu_emulation::set_order(gpu_emulation::Order::random, seed);
    const Floats there, copied;
    const DeviceMemory staging(device(), MemoryKind::staging, n * sizeof(float));
    auto* host = static_cast<float*>(staging.data());
    std::iota(host, host + n, 5.0f);
    const std::unique_ptr<Event> arrived = device().make_event(), done = device().make_event();
    device().enqueue_upload(host, there.tensor(), Stream::copy);
    arrived->record(Stream::copy);
    arrived->hold(Stream::compute);
    ops()(Copy{.from = there.tensor(), .to = copied.tensor()});
    done->record(Stream::compute);
    done->wait();
    CHECK(done->happened());
    CHECK(copied.values() == counting_from(5));
    CHECK(reports() == "");
  }
}

TEST_CASE("an event that was never recorded has happened") {
  const std::unique_ptr<Event> event = device().make_event();
  CHECK(event->happened());
  event->hold(Stream::compute);
  event->wait();
  CHECK(reports() == "");
}

TEST_CASE("a recording calls its body twice, and from then on does the same by itself") {
  const Floats from, to;
  const std::unique_ptr<Device::Recording> recording = device().make_recording();
  int calls = 0;
  const auto copy = [&](float first) {
    from.set(first);
    const Device::Ran ran = device().run(*recording, [&] {
      ++calls;
      ops()(Copy{.from = from.tensor(), .to = to.tensor()});
    });
    CHECK(to.values() == counting_from(first));
    return ran;
  };
  const gpu_emulation::Counters before = gpu_emulation::counters();
  CHECK(copy(0) == Device::Ran::body);  // not captured: what is made once is made now
  CHECK(copy(10) == Device::Ran::body);
  CHECK(copy(20) == Device::Ran::recording);
  CHECK(copy(30) == Device::Ran::recording);
  CHECK(calls == 2);
  const gpu_emulation::Counters after = gpu_emulation::counters();
  CHECK(after.graph_launches - before.graph_launches == 3);
  CHECK(after.graph_instantiations - before.graph_instantiations == 1);
  CHECK(reports() == "");
}

TEST_CASE("a recording whose operations use memory that has moved is made again") {
  const Floats from, to;
  from.set(1);
  const std::unique_ptr<Device::Recording> recording = device().make_recording();
  auto& cuda = dynamic_cast<CudaDevice&>(device());
  cuda.workspace(1024);
  // An operation's partial results, as far as this test is concerned.
  const auto copy_by_way_of_workspace = [&] {
    return device().run(*recording, [&] {
      const Tensor partial{cuda.workspace(n * sizeof(float)), DType::f32, {n}};
      ops()(Copy{.from = from.tensor(), .to = partial});
      ops()(Copy{.from = partial, .to = to.tensor()});
    });
  };
  copy_by_way_of_workspace();
  copy_by_way_of_workspace();
  CHECK(copy_by_way_of_workspace() == Device::Ran::recording);
  cuda.workspace(size_t{1} << 20);
  from.set(50);
  CHECK(copy_by_way_of_workspace() == Device::Ran::body);
  CHECK(to.values() == counting_from(50));
  CHECK(copy_by_way_of_workspace() == Device::Ran::recording);
  CHECK(reports() == "");
}

TEST_CASE("a body that throws leaves the device as it was") {
  const Floats to;
  const std::unique_ptr<Device::Recording> recording = device().make_recording();
  device().run(*recording, [&] { ops()(Zero{.x = to.tensor()}); });
  CHECK_THROWS_AS(device().run(*recording,
                               [&] {
                                 ops()(Zero{.x = to.tensor()});
                                 fail("no");
                               }),
                  Error);
  to.set(3);
  CHECK(to.values() == counting_from(3));
  CHECK(reports() == "");
}

TEST_CASE("memory: what is not there is said, and what is asked for is counted") {
  device().trail()->step(4);
  device().trail()->part("experts (forward)", 2);
  device().trail()->operation("GroupedLinear");
  try {
    device().allocate(MemoryKind::device, size_t{1} << 50);
    FAIL("a petabyte was allocated");
  } catch (const Error& error) {
    CHECK_THAT(error.what(),
               Catch::Contains("out of GPU memory (step 5, experts (forward) of layer 2: GroupedLinear)"));
  }
  const uint64_t free = device().available_memory().bytes;
  {
    const DeviceMemory memory(device(), MemoryKind::device, 1 << 20);
    CHECK(device().available_memory().bytes <= free - (1 << 20));
  }
  CHECK(device().available_memory().bytes == free);
  CHECK_FALSE(device().shares_host_memory());
  CHECK_THROWS_AS(make_cuda_device({.gpu = 7}), Error);
}
