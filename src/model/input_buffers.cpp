#include "model/input_buffers.h"

#include <algorithm>

namespace strand {

InputBuffers::InputBuffers(Device& device, Arena& arena, int64_t rows) : device_(&device) {
  for (Slot& slot : slots_) {
    slot.inputs = arena.allocate("inputs", DType::i32, {rows});
    slot.targets = arena.allocate("targets", DType::i32, {rows});
    slot.staging = DeviceMemory(device, MemoryKind::staging, 2 * slot.inputs.bytes());
    slot.uploaded = device.make_event();
    slot.consumed = device.make_event();
  }
}

Batch InputBuffers::send(int64_t sequences, int64_t tokens, const int32_t* inputs, const int32_t* targets) {
  Slot& slot = slots_[next_];
  next_ = 1 - next_;
  slots_[next_].consumed->record(Stream::compute);  // the batch before this one has been enqueued whole
  const int64_t rows = sequences * tokens;
  const Batch batch{sequences, tokens, slot.inputs.rows(0, rows), slot.targets.rows(0, rows)};
  if (!slot.uploaded->happened()) slot.uploaded->wait();
  auto* staged = static_cast<int32_t*>(slot.staging.data());
  std::copy_n(inputs, rows, staged);
  if (targets != nullptr)
    std::copy_n(targets, rows, staged + rows);
  else
    std::fill_n(staged + rows, rows, -1);
  slot.consumed->hold(Stream::copy);
  device_->enqueue_upload(staged, batch.inputs, Stream::copy);
  device_->enqueue_upload(staged + rows, batch.targets, Stream::copy);
  slot.uploaded->record(Stream::copy);
  slot.uploaded->hold(Stream::compute);
  return batch;
}

}  // namespace strand
