#pragma once
// What devices have in common whose memory is the host's and whose operations are done when the call returns (cpu and
// reference): a copy is a copy, a stream is the program's own order, and every event has happened.
#include "kernels/device.h"

namespace strand {

class HostDevice : public Device {
 public:
  /// Large blocks ask for huge pages.
  void* allocate(MemoryKind kind, size_t bytes) override;
  void deallocate(MemoryKind kind, void* memory) noexcept override;
  AvailableMemory available_memory() const override;
  uint64_t peak_bytes() const override;
  void upload(const void* host, const Tensor& device) override;
  void download(const Tensor& device, void* host) override;
  void enqueue_upload(const void* staging, const Tensor& device, Stream) override { upload(staging, device); }
  void enqueue_download(const Tensor& device, void* staging, Stream) override { download(device, staging); }
  void synchronize() override {}
  std::unique_ptr<Event> make_event() override;
  std::unique_ptr<Event> make_timed_event() override { return make_event(); }
  int steps_ahead() const override { return 0; }
};

}  // namespace strand
