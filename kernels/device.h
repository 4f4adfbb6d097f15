#pragma once
// A Device is the machine that operations run on: its memory, its streams, the way numbers get in and out, and what it
// knows about itself. Operations (kernels/ops.h) and communicators (parallel/communicator.h) are made from a device and
// work in its order; nothing above kernels/ asks OpenMP, /proc or a driver.
//
// A device has four streams. What is enqueued on one stream runs in the order in which it was enqueued; streams run
// side by side, unless one waits for an event of another. The host enqueues and goes on. It waits in download(),
// synchronize() and Event::wait() only, and each of these says so. On the CPU a stream is the program's own order: what
// is enqueued is done when the call returns, and every event has happened.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/available_memory.h"
#include "core/tensor.h"
#include "kernels/work_trail.h"

namespace strand {

class Device;
class Ops;
class OpWorkspaces;

enum class Stream : uint8_t {
  compute,        ///< operations
  communication,  ///< collectives between ranks
  copy,           ///< between the host and the device: a step's inputs and counts
  snapshot,       ///< to the host, of what a checkpoint holds: it takes long, and nothing else stands behind it
};
constexpr int stream_count = 4;

/// A point in the order of a stream, made once by Device::make_event() and recorded again and again. An event that was
/// never recorded has happened.
class Event {
 public:
  virtual ~Event() = default;
  /// Everything enqueued on `stream` so far has to be done before this event has happened.
  virtual void record(Stream stream) = 0;
  /// What is enqueued on `stream` from now on starts after the event as it was last recorded. The host does not wait.
  virtual void hold(Stream stream) = 0;
  /// Whether the event has happened. The host does not wait.
  virtual bool happened() const = 0;
  /// The host waits until the event has happened. Throws Error when the device failed meanwhile.
  virtual void wait() = 0;
  /// Seconds from `earlier` to this event, as they were last recorded. Both were made by Device::make_timed_event() of
  /// one device, and have happened.
  virtual double seconds_since(const Event& earlier) const = 0;
};

enum class MemoryKind : uint8_t {
  device,   ///< where operations work
  staging,  ///< host memory that the device reads and writes itself (pinned)
};

/// Owns a block of memory of a device. The device outlives it.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(Device& device, MemoryKind kind, size_t bytes);
  ~DeviceMemory();
  DeviceMemory(DeviceMemory&& other) noexcept;
  DeviceMemory& operator=(DeviceMemory&& other) noexcept;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  explicit operator bool() const { return data_ != nullptr; }
  /// The memory as a tensor that begins at byte `offset`. Throws Error when it is too small.
  Tensor tensor(DType dtype, const Shape& shape, size_t offset = 0) const;

 private:
  Device* device_ = nullptr;
  MemoryKind kind_ = MemoryKind::device;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

enum class PeakKind : uint8_t { fp32, bf16 };

struct PeakRate {
  double flops = 0;              ///< FLOP/s, 2 per multiply-add; 0 = this device cannot tell
  const char* instruction = "";  ///< what was measured, for people
};

/// How many rows of hidden states the head takes at a time (model/head.h).
struct HeadChunk {
  int64_t logits = int64_t{1} << 23;  ///< as many rows as have at most so many logits: 32 MiB in f32
  /// But no fewer than these: each chunk reads and writes the whole gradient of the head, V·D values in f32, which
  /// costs more than its products where a large vocabulary leaves few rows.
  int64_t least_rows = 256;
};

/// What a plan has to know of a device that need not be there.
struct DeviceTraits {
  /// The row blocks of experts start at multiples of this (padding rows are zero), as products like it.
  int64_t row_alignment = 1;
  /// What each operation works in beside its tensors (kernels/op_workspaces.h); null: nothing is known of it.
  std::shared_ptr<const OpWorkspaces> workspaces = nullptr;
  /// Device memory that libraries are given once, or take for themselves, whatever runs.
  size_t library_bytes = 0;
  HeadChunk head_chunk{};
};

class Device {
 public:
  virtual ~Device() = default;

  virtual const char* name() const = 0;
  virtual DeviceTraits traits() const = 0;
  int64_t row_alignment() const { return traits().row_alignment; }

  /// The operations of this device, which outlives them.
  virtual std::unique_ptr<Ops> make_ops() = 0;

  // ---- memory, aligned to Arena::alignment, contents undefined; DeviceMemory owns it
  /// Throws Error when there is not enough.
  virtual void* allocate(MemoryKind kind, size_t bytes) = 0;
  virtual void deallocate(MemoryKind kind, void* memory) noexcept = 0;
  /// What a process may still allocate on this device.
  virtual AvailableMemory available_memory() const = 0;
  /// The most memory of this device that the process has held, in bytes: of the CPU, all memory of the process.
  virtual uint64_t peak_bytes() const = 0;
  /// Whether the device's memory is the host's, so that all processes of a host share it. False for a GPU, which has
  /// memory of its own that one process uses.
  virtual bool shares_host_memory() const { return true; }

  // ---- in and out
  /// Copies host numbers in. The host memory may be used again when the call returns. Operations enqueued later see
  /// the numbers.
  virtual void upload(const void* host, const Tensor& device) = 0;
  /// Waits for the operations enqueued so far and copies the numbers out.
  virtual void download(const Tensor& device, void* host) = 0;
  /// Copies in and out that the host does not wait for, in the order of `stream`. The memory at `staging` belongs to
  /// the copy until an event that was recorded after it has happened.
  virtual void enqueue_upload(const void* staging, const Tensor& device, Stream stream) = 0;
  virtual void enqueue_download(const Tensor& device, void* staging, Stream stream) = 0;
  /// Waits for everything enqueued on all streams.
  virtual void synchronize() = 0;

  virtual std::unique_ptr<Event> make_event() = 0;
  /// An event that also keeps the time when it happened.
  virtual std::unique_ptr<Event> make_timed_event() = 0;
  /// How many steps the host may have enqueued before it reads the numbers of one: 0 where nothing runs while the host
  /// goes on. The same on all ranks, so that ranks read the same step at the same time.
  virtual int steps_ahead() const { return 1; }

  // ---- a step as one piece of work
  /// What a device remembers of a body. It goes before the device does.
  class Recording {
   public:
    virtual ~Recording() = default;
  };
  virtual std::unique_ptr<Recording> make_recording() { return std::make_unique<Recording>(); }
  enum class Ran : uint8_t { body, recording };
  /// Runs what `body` enqueues on the compute stream, and on streams that it joins to that one by events. It is to
  /// enqueue the same operations on the same memory each time, and must not wait. A device that can records them, and
  /// from then on launches the recording as one piece without calling the body: what the body does on the host besides
  /// is then not done. Says what ran.
  virtual Ran run(Recording&, const std::function<void()>& body) {
    body();
    return Ran::body;
  }

  /// Where to tell what is enqueued, so that the message of a fault can say it; null where an operation that fails does
  /// so when it is called.
  virtual WorkTrail* trail() { return nullptr; }

  // ---- about itself
  /// Threads that work on an operation; 1 where that means nothing.
  virtual int threads() const { return 1; }
  /// The arithmetic limit, measured: the best of `rounds` short rounds.
  virtual PeakRate measure_peak(PeakKind kind, int rounds) = 0;
  /// For people, one line: "instructions of the kernels: avx512, products avx512_core".
  virtual std::string description() const = 0;
  /// Equal on two devices where the same operations give the same bits.
  virtual std::string arithmetic() const { return description(); }
  /// What somebody who asks for bf16 ought to know about it here, one line, or "".
  virtual std::string bf16_remark() const { return ""; }
};

}  // namespace strand
