#include "core/arena.h"

#include "core/error.h"

namespace strand {

Arena::Arena(std::string name, void* memory, size_t capacity)
    : name_(std::move(name)), base_(static_cast<std::byte*>(memory)), capacity_(capacity) {}

Arena Arena::counting(std::string name) {
  Arena arena;
  arena.name_ = std::move(name);
  // Never mapped on Linux x86-64 and arm64 user space: a host read of planned data faults at once.
  arena.base_ = reinterpret_cast<std::byte*>(uintptr_t{1} << 62);
  arena.capacity_ = size_t{1} << 60;
  arena.counting_ = true;
  return arena;
}

Tensor Arena::allocate(const std::string& name, DType dtype, const Shape& shape) {
  const size_t elements = static_cast<size_t>(shape.elements()), room = (capacity_ - top_) / alignment * alignment;
  if (elements > room / size_of(dtype)) {
    fail(
        "the {} arena is full: no room for {} ({} {}) after {} of {} bytes. Use a smaller micro_batch_size or "
        "sequence_length, or more recomputation.",
        name_, name, to_string(dtype), shape.to_string(), top_, capacity_);
  }
  const size_t bytes = (elements * size_of(dtype) + alignment - 1) / alignment * alignment;
  const Tensor tensor{base_ + top_, dtype, shape};
  if (counting_) live_.push_back({name, dtype, shape, top_, bytes});
  top_ += bytes;
  if (top_ > peak_) {
    peak_ = top_;
    if (counting_) peak_records_ = live_;
  }
  return tensor;
}

}  // namespace strand
