#include "model/step_inputs.h"

#include <algorithm>

#include "core/error.h"

namespace strand {

StepInputs::StepInputs(Device& device, Arena& arena, int64_t rows)
    : inputs_(arena.allocate("inputs (step)", DType::i32, {rows})),
      targets_(arena.allocate("targets (step)", DType::i32, {rows})),
      device_(&device) {
  for (int i = 0; i <= device.steps_ahead(); ++i)
    slots_.push_back({DeviceMemory(device, MemoryKind::staging, 2 * inputs_.bytes()), device.make_event()});
}

void StepInputs::send(int64_t rows, const int32_t* inputs, const int32_t* targets) {
  require(rows <= this->rows(), "a step of {} tokens in memory for {}", rows, this->rows());
  Slot& slot = slots_[next_];
  next_ = (next_ + 1) % slots_.size();
  if (!slot.taken->happened()) slot.taken->wait();
  auto* staged = static_cast<int32_t*>(slot.staging.data());
  std::copy_n(inputs, rows, staged);
  std::copy_n(targets, rows, staged + rows);
  device_->enqueue_upload(staged, inputs_.rows(0, rows), Stream::compute);
  device_->enqueue_upload(staged + rows, targets_.rows(0, rows), Stream::compute);
  slot.taken->record(Stream::compute);
}

Batch StepInputs::batch(int64_t first, int64_t sequences, int64_t tokens) const {
  const int64_t end = first + sequences * tokens;
  return {sequences, tokens, inputs_.rows(first, end), targets_.rows(first, end)};
}

}  // namespace strand
