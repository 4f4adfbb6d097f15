// Host memory, and the operations that only move numbers.
#include <cstring>
#include <new>

#include "core/arena.h"
#include "core/error.h"
#include "kernels/reference/reference_ops.h"
#include "kernels/reference/view.h"

namespace strand {

using namespace reference;

void* ReferenceOps::allocate(size_t bytes) {
  void* memory = ::operator new(bytes, std::align_val_t{Arena::alignment}, std::nothrow);
  require(memory != nullptr, "the reference backend has no {} bytes of memory", bytes);
  return memory;
}

void ReferenceOps::deallocate(void* memory) noexcept {
  ::operator delete(memory, std::align_val_t{Arena::alignment});
}

void ReferenceOps::upload(const void* host, const Tensor& device) {
  if (device.bytes() > 0) std::memcpy(device.data, host, device.bytes());
}

void ReferenceOps::download(const Tensor& device, void* host) {
  if (device.bytes() > 0) std::memcpy(host, device.data, device.bytes());
}

void ReferenceOps::run(const Zero& op) {
  std::memset(op.x.data, 0, op.x.bytes());  // all bits zero is 0 in every element type
}

void ReferenceOps::run(const Copy& op) {
  std::memmove(op.to.data, op.from.data, op.from.bytes());
}

// act = acc = f64, so nothing is rounded.
void ReferenceOps::run(const Cast& op) {
  const auto from = flat(op.from), to = flat(op.to);
  for (int64_t i = 0; i < from.dim(0); ++i) to(i) = from(i);
}

}  // namespace strand
