#pragma once
// Memory of the emulated GPUs. An allocation begins undefined (all bits one: NaN), ends at a guard page, and its
// addresses are used again as late as possible. While host code runs, none of it can be touched.
//
// GPU_EMULATION_FAULT=OPERATION:NUMBER:ERROR makes a fault: the NUMBER-th (from 1) stream operation whose name contains
// OPERATION fails with ERROR: "illegal_address", "ecc" or "launch_failure"; cudaMalloc of that number with
// "out_of_memory" where OPERATION is "cudaMalloc"; and with "nccl" the NUMBER-th call of an NCCL operation, which then
// never ends, while its communicator has an asynchronous error.
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <optional>

namespace gpu_emulation {

constexpr int most_devices = 8;
int device_count();

struct Allocation {
  uintptr_t address = 0;
  size_t bytes = 0;
  int device = 0;
  bool freed = false;
  bool pinned = false;  ///< host memory that the device can read and write (cudaMallocHost)
};

/// The allocation that the address lies in, freed ones included; null when there is none.
const Allocation* find_allocation(const void* address);
/// Whether the address is one that device memory can have.
bool in_device_range(const void* address);
bool is_device_memory(const void* address);
bool is_pinned(const void* address);
/// Reports and returns false unless the range lies in one live allocation of device memory; for reports called `what`.
bool require_device_range(const void* address, size_t bytes, const char* what);

/// Null when the device has no such amount of memory left.
void* allocate_device_memory(size_t bytes, int device);
/// False, and a report, when the address is none that was allocated, or was freed before.
bool free_device_memory(void* address);
/// A whole allocation that is a library's workspace from now on: whoever else touches it faults, and its contents cost
/// no memory here (the emulated library needs none).
void give_to_library(void* address);
void* allocate_pinned(size_t bytes, int device);
bool free_pinned(void* address);

struct MemoryUse {
  size_t live = 0, peak = 0, total = 0;  ///< bytes
  uint64_t allocations = 0;              ///< since the start
};
MemoryUse memory_use(int device);

/// While one lives, device memory can be touched: stream operations run.
class DeviceMemoryOpen {
 public:
  DeviceMemoryOpen();
  ~DeviceMemoryOpen();
  DeviceMemoryOpen(const DeviceMemoryOpen&) = delete;
  DeviceMemoryOpen& operator=(const DeviceMemoryOpen&) = delete;
};

/// Lets an access go on that faulted at `address`: true where that is a live allocation which could be touched, but had
/// not been yet.
bool open_at_fault(const void* address);

/// The fault that has ended the running block, if it was one of memory.
std::optional<cudaError_t> take_fault();
/// The fault that GPU_EMULATION_FAULT orders for this operation.
std::optional<cudaError_t> ordered_fault(const char* operation);
/// Whether it orders an asynchronous error of NCCL for this call.
bool ordered_nccl_fault(const char* operation);

}  // namespace gpu_emulation
