#include "kernels/host_device.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/arena.h"
#include "core/clock.h"
#include "core/error.h"

namespace strand {

namespace {
// Large blocks ask for huge pages: weights are read once a step, so small pages would miss the TLB all the time.
constexpr size_t huge_page = size_t{2} << 20;

class PastEvent final : public Event {
 public:
  void record(Stream) override { time_ = now(); }
  void hold(Stream) override {}
  bool happened() const override { return true; }
  void wait() override {}
  double seconds_since(const Event& earlier) const override {
    return time_ - static_cast<const PastEvent&>(earlier).time_;
  }

 private:
  double time_ = 0;
};
}  // namespace

void* HostDevice::allocate(MemoryKind, size_t bytes) {
  const bool large = bytes >= 2 * huge_page;
  const size_t unit = large ? huge_page : Arena::alignment;
  require(bytes <= SIZE_MAX - unit, "{} bytes of memory asked for: a size went wrong", bytes);
  const size_t rounded = std::max(unit, (bytes + unit - 1) / unit * unit);
  void* memory = std::aligned_alloc(unit, rounded);
  require(memory != nullptr,
          "out of memory: {:.2f} GiB asked for; a smaller micro-batch, model or recompute setting helps",
          static_cast<double>(bytes) / (1 << 30));
  if (large) madvise(memory, rounded, MADV_HUGEPAGE);  // a hint: where it is refused, pages are small and all is well
  return memory;
}

void HostDevice::deallocate(MemoryKind, void* memory) noexcept {
  std::free(memory);
}

AvailableMemory HostDevice::available_memory() const {
  return strand::available_memory();
}

uint64_t HostDevice::peak_bytes() const {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;  // Linux counts in KiB
}

void HostDevice::upload(const void* host, const Tensor& device) {
  if (device.bytes() > 0) std::memcpy(device.data, host, device.bytes());
}

void HostDevice::download(const Tensor& device, void* host) {
  if (device.bytes() > 0) std::memcpy(host, device.data, device.bytes());
}

std::unique_ptr<Event> HostDevice::make_event() {
  return std::make_unique<PastEvent>();
}

}  // namespace strand
