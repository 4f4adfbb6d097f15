#pragma once
// The batches of a step on their way to the device. There are two buffers: while operations read one, the next batch is
// checked, copied into staging memory and sent to the other on the copy stream. The host waits only when it would
// otherwise overwrite staging memory that is still being sent, two batches ago.
#include <array>
#include <memory>

#include "core/arena.h"
#include "model/context.h"

namespace strand {

class InputBuffers {
 public:
  /// Takes batches of at most `rows` tokens. The device memory comes out of `arena`.
  InputBuffers(Device& device, Arena& arena, int64_t rows);

  /// Sends a batch of `sequences` x `tokens`; `targets` may be null (all ignored). Operations enqueued from now on see
  /// it. It stays as it is until the second send() after this one, before which everything that reads it has to be
  /// enqueued. The ids are checked already.
  Batch send(int64_t sequences, int64_t tokens, const int32_t* inputs, const int32_t* targets);

 private:
  struct Slot {
    Tensor inputs, targets;           ///< [rows] i32 on the device
    DeviceMemory staging;             ///< [2, rows] i32
    std::unique_ptr<Event> uploaded;  ///< the staging memory may be written again, and operations may read
    std::unique_ptr<Event> consumed;  ///< all operations that read the device memory are done
  };

  Device* device_;
  std::array<Slot, 2> slots_;
  size_t next_ = 0;
};

}  // namespace strand
