#pragma once
// Memory that an operation works in beside its tensors.
//
// An operation names its buffers in a struct whose constructor takes them from a Workspace, one after another:
//
//     struct NormBuffers {
//       NormBuffers(Workspace& memory, const RmsNormBackward& op) : partial(memory.take<float>(...)) {}
//       float* partial;  ///< [blocks, D]
//     };
//
// The struct is made without memory to know how much it takes, which is all that a plan asks, and then once more with
// memory (CpuOps::buffers). So what is planned and what is used are the same code.
#include <omp.h>

#include <cstddef>
#include <cstdint>

#include "kernels/device.h"

namespace strand {

class Workspace {
 public:
  /// Without memory: what take() returns must not be read or written.
  Workspace() = default;
  /// `memory` is aligned to `line`.
  explicit Workspace(void* memory) : base_(static_cast<std::byte*>(memory)) {}

  static constexpr int64_t line = 64;  ///< bytes of a cache line

  /// Room for `count` elements, on cache lines of its own; contents undefined.
  template <typename T>
  T* take(int64_t count) {
    std::byte* const buffer = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (count * static_cast<int64_t>(sizeof(T)) + line - 1) / line * line;
    return reinterpret_cast<T*>(buffer);
  }
  /// Bytes taken so far.
  size_t bytes() const { return static_cast<size_t>(used_); }

 private:
  std::byte* base_ = nullptr;
  int64_t used_ = 0;
};

/// One buffer of floats for each thread of the next parallel loop, on cache lines of its own.
class ThreadBuffers {
 public:
  ThreadBuffers(Workspace& memory, int64_t floats)
      : stride_((floats + line_floats - 1) / line_floats * line_floats),
        base_(memory.take<float>(stride_ * omp_get_max_threads())) {}
  float* mine() const { return base_ + stride_ * omp_get_thread_num(); }

 private:
  static constexpr int64_t line_floats = Workspace::line / static_cast<int64_t>(sizeof(float));
  int64_t stride_;
  float* base_;
};

/// Bytes that an operation's buffers take.
template <typename Buffers, typename Op>
size_t workspace_bytes(const Op& op) {
  Workspace memory;
  static_cast<void>(Buffers(memory, op));
  return memory.bytes();
}

/// The block that all operations of a backend work in. It grows to what the largest of them needs, and is kept.
class WorkspaceBlock {
 public:
  explicit WorkspaceBlock(Device& device) : device_(device) {}

  /// At least so many bytes; contents undefined. Growing makes earlier pointers invalid.
  void* at_least(size_t bytes) {
    if (bytes > memory_.bytes()) {
      memory_ = DeviceMemory();
      memory_ = DeviceMemory(device_, MemoryKind::device, bytes);
    }
    return memory_.data();
  }

 private:
  Device& device_;
  DeviceMemory memory_;
};

}  // namespace strand
