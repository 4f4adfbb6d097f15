#pragma once
// The batches of a whole step on the device, always at the same place, for steps that are recorded: a recording reads
// the same memory each time. They are sent in one piece before the step, on the compute stream, so that they overwrite
// what the step before has read.
#include <memory>
#include <vector>

#include "core/arena.h"
#include "model/context.h"

namespace strand {

class StepInputs {
 public:
  /// Holds the `rows` tokens of all micro-batches of a step. The device memory comes out of `arena`. There is staging
  /// memory for as many steps as the host may have enqueued.
  StepInputs(Device& device, Arena& arena, int64_t rows);

  int64_t rows() const { return inputs_.elements(); }
  /// Sends the first `rows` inputs and targets. The host waits only when it would otherwise overwrite staging memory
  /// that is still being sent. The ids are checked already.
  void send(int64_t rows, const int32_t* inputs, const int32_t* targets);
  /// The micro-batch that begins at row `first` of what was sent.
  Batch batch(int64_t first, int64_t sequences, int64_t tokens) const;

 private:
  struct Slot {
    DeviceMemory staging;          ///< [2, rows] i32
    std::unique_ptr<Event> taken;  ///< the staging memory may be written again
  };

  Tensor inputs_, targets_;  ///< [rows] i32
  Device* device_;
  std::vector<Slot> slots_;  ///< a ring
  size_t next_ = 0;
};

}  // namespace strand
