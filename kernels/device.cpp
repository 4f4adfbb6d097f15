#include "kernels/device.h"

#include <utility>

#include "core/error.h"

namespace strand {

DeviceMemory::DeviceMemory(Device& device, MemoryKind kind, size_t bytes)
    : device_(&device), kind_(kind), data_(device.allocate(kind, bytes)), bytes_(bytes) {}

DeviceMemory::~DeviceMemory() {
  if (data_ != nullptr) device_->deallocate(kind_, data_);
}

DeviceMemory::DeviceMemory(DeviceMemory&& other) noexcept
    : device_(other.device_),
      kind_(other.kind_),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

DeviceMemory& DeviceMemory::operator=(DeviceMemory&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(kind_, other.kind_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Tensor DeviceMemory::tensor(DType dtype, const Shape& shape, size_t offset) const {
  const Tensor tensor{static_cast<std::byte*>(data_) + offset, dtype, shape};
  require(offset <= bytes_ && tensor.bytes() <= bytes_ - offset, "{} at byte {} of a block of {} bytes",
          tensor.to_string(), offset, bytes_);
  return tensor;
}

}  // namespace strand
