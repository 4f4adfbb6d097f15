#include "core/arena.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace strand {

Arena::Arena(std::string name, void* memory, size_t capacity)
    : name_(std::move(name)), blocks_{{static_cast<std::byte*>(memory), capacity}} {}

Arena Arena::growing(std::string name, Source source, size_t capacity) {
  Arena arena(std::move(name), source.allocate(capacity), capacity);
  arena.source_ = std::move(source);
  return arena;
}

Arena Arena::counting(std::string name) {
  // These addresses are never mapped in the user space of Linux on x86-64 and arm64, so a read of planned data by the
  // host faults at once.
  Arena arena(std::move(name), reinterpret_cast<void*>(uintptr_t{1} << 62), size_t{1} << 60);
  arena.counting_ = true;
  return arena;
}

Arena::~Arena() {
  if (!source_.deallocate) return;
  for (const Block& block : blocks_) source_.deallocate(block.base);
}

void Arena::swap(Arena& other) noexcept {
  std::swap(name_, other.name_);
  std::swap(blocks_, other.blocks_);
  std::swap(source_, other.source_);
  std::swap(top_, other.top_);
  std::swap(peak_, other.peak_);
  std::swap(counting_, other.counting_);
  std::swap(live_, other.live_);
  std::swap(peak_records_, other.peak_records_);
}

size_t Arena::capacity() const {
  size_t sum = 0;
  for (const Block& block : blocks_) sum += block.capacity;
  return sum;
}

size_t Arena::start_of_block() const {
  size_t sum = 0;
  for (size_t i = 0; i < top_.block; ++i) sum += blocks_[i].capacity;
  return sum;
}

size_t Arena::room() const {
  return (blocks_[top_.block].capacity - top_.offset) / alignment * alignment;
}

/// Makes room for a tensor: in the next block where there is one, in a new block otherwise. When nothing is in use, one
/// new block replaces all.
void Arena::grow(const std::string& name, DType dtype, const Shape& shape) {
  const size_t bytes = (static_cast<size_t>(shape.elements()) * size_of(dtype) + alignment - 1) / alignment * alignment;
  const bool empty = used() == 0;
  const size_t kept = empty ? 0 : top_.block + 1;
  if (!empty && kept < blocks_.size() && blocks_[kept].capacity >= bytes) {
    top_ = {kept, 0};
    return;
  }
  size_t wanted = bytes;
  for (size_t i = kept; i < blocks_.size(); ++i) wanted = std::max(wanted, blocks_[i].capacity);
  if (empty) wanted = std::max(wanted, std::max(peak_, capacity()));
  while (blocks_.size() > kept) {
    source_.deallocate(blocks_.back().base);
    blocks_.pop_back();
  }
  try {
    blocks_.push_back({static_cast<std::byte*>(source_.allocate(wanted)), wanted});
  } catch (const Error& error) {
    if (blocks_.empty()) blocks_.push_back({});
    fail(
        "the {} arena has grown to {} bytes and finds no room for {} ({} {}): {}. More tokens chose this process's "
        "experts than memory was planned for; use a smaller micro_batch_size or sequence_length, more recomputation, "
        "or a higher losses.lb_weight.",
        name_, capacity(), name, to_string(dtype), shape.to_string(), error.what());
  }
  top_ = {blocks_.size() - 1, 0};
}

Tensor Arena::allocate(const std::string& name, DType dtype, const Shape& shape) {
  const auto elements = static_cast<size_t>(shape.elements());
  const bool scattered = source_.allocate && blocks_.size() > 1 && used() == 0;
  if (scattered || elements > room() / size_of(dtype)) {
    if (!source_.allocate) {
      fail(
          "the {} arena is full: no room for {} ({} {}) after {} of {} bytes. Use a smaller micro_batch_size or "
          "sequence_length, or more recomputation.",
          name_, name, to_string(dtype), shape.to_string(), used(), capacity());
    }
    grow(name, dtype, shape);
  }
  const size_t bytes = (elements * size_of(dtype) + alignment - 1) / alignment * alignment;
  const Tensor tensor{blocks_[top_.block].base + top_.offset, dtype, shape};
  if (counting_) live_.push_back({name, dtype, shape, used(), bytes});
  top_.offset += bytes;
  if (used() > peak_) {
    peak_ = used();
    if (counting_) peak_records_ = live_;
  }
  return tensor;
}

}  // namespace strand
