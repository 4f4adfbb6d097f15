#pragma once
// A device that counts what the host asks of it, and operations that run on it.
#include <memory>
#include <optional>
#include <vector>

#include "kernels/ops.h"

namespace strand::test {

/// How often the host waited for the device or read from it, and what it allocated.
struct HostRequests {
  std::vector<size_t> allocations;  ///< bytes of device memory, in order
  int uploads = 0;                  ///< blocking
  int downloads = 0;                ///< blocking
  int waits = 0;                    ///< Event::wait and synchronize
  int enqueued = 0;                 ///< copies in and out that nobody waits for
};

class CountingDevice final : public Device {
 public:
  explicit CountingDevice(Device& behind) : behind_(behind) {}

  HostRequests requests;
  /// How far the host may be ahead, whatever the device behind says: results are then read so many steps late.
  std::optional<int> ahead;
  /// The arithmetic limit that is told in place of a measured one.
  std::optional<PeakRate> peak;
  /// The trail that is told what is enqueued.
  WorkTrail* told = nullptr;

  const char* name() const override { return behind_.name(); }
  DeviceTraits traits() const override { return behind_.traits(); }
  std::unique_ptr<Ops> make_ops() override;
  void* allocate(MemoryKind kind, size_t bytes) override {
    if (kind == MemoryKind::device) requests.allocations.push_back(bytes);
    return behind_.allocate(kind, bytes);
  }
  void deallocate(MemoryKind kind, void* memory) noexcept override { behind_.deallocate(kind, memory); }
  AvailableMemory available_memory() const override { return behind_.available_memory(); }
  uint64_t peak_bytes() const override { return behind_.peak_bytes(); }
  void upload(const void* host, const Tensor& device) override {
    ++requests.uploads;
    behind_.upload(host, device);
  }
  void download(const Tensor& device, void* host) override {
    ++requests.downloads;
    behind_.download(device, host);
  }
  void enqueue_upload(const void* staging, const Tensor& device, Stream stream) override {
    ++requests.enqueued;
    behind_.enqueue_upload(staging, device, stream);
  }
  void enqueue_download(const Tensor& device, void* staging, Stream stream) override {
    ++requests.enqueued;
    behind_.enqueue_download(device, staging, stream);
  }
  void synchronize() override {
    ++requests.waits;
    behind_.synchronize();
  }
  std::unique_ptr<Event> make_event() override;
  std::unique_ptr<Event> make_timed_event() override;
  int steps_ahead() const override { return ahead.value_or(behind_.steps_ahead()); }
  WorkTrail* trail() override { return told; }
  int threads() const override { return behind_.threads(); }
  PeakRate measure_peak(PeakKind kind, int rounds) override {
    return peak ? *peak : behind_.measure_peak(kind, rounds);
  }
  std::string description() const override { return behind_.description(); }

 private:
  class CountingEvent final : public Event {
   public:
    CountingEvent(HostRequests& requests, std::unique_ptr<Event> behind)
        : requests_(requests), behind_(std::move(behind)) {}
    void record(Stream stream) override { behind_->record(stream); }
    void hold(Stream stream) override { behind_->hold(stream); }
    bool happened() const override { return behind_->happened(); }
    void wait() override {
      ++requests_.waits;
      behind_->wait();
    }
    double seconds_since(const Event& earlier) const override {
      return behind_->seconds_since(*static_cast<const CountingEvent&>(earlier).behind_);
    }

   private:
    HostRequests& requests_;
    std::unique_ptr<Event> behind_;
  };

  Device& behind_;
};

/// Operations of a backend, on a device that counts.
class ForwardingOps final : public Ops {
 public:
  ForwardingOps(CountingDevice& device, std::unique_ptr<Ops> behind)
      : Ops(device), requests_(device.requests), behind_(std::move(behind)) {}
  const char* name() const override { return behind_->name(); }
  /// The operations ask the device behind for it.
  void reserve_workspace(size_t bytes) override {
    if (bytes > 0) requests_.allocations.push_back(bytes);
    behind_->reserve_workspace(bytes);
  }

#define STRAND_FORWARD_RUN(Name, family) \
  void run(const Name& op) override {    \
    (*behind_)(op);                      \
  }
  STRAND_FOR_EACH_OP(STRAND_FORWARD_RUN)
#undef STRAND_FORWARD_RUN

 private:
  HostRequests& requests_;
  std::unique_ptr<Ops> behind_;
};

inline std::unique_ptr<Ops> CountingDevice::make_ops() {
  return std::make_unique<ForwardingOps>(*this, behind_.make_ops());
}

inline std::unique_ptr<Event> CountingDevice::make_event() {
  return std::make_unique<CountingEvent>(requests, behind_.make_event());
}

inline std::unique_ptr<Event> CountingDevice::make_timed_event() {
  return std::make_unique<CountingEvent>(requests, behind_.make_timed_event());
}

}  // namespace strand::test
