// The CUDA runtime at its C interface: memory.
#include <cstring>

#include "gpu_emulation/checker.h"
#include "gpu_emulation/counters.h"
#include "gpu_emulation/device_memory.h"
#include "gpu_emulation/graphs.h"
#include "gpu_emulation/reports.h"
#include "gpu_emulation/runtime_api.h"

namespace gpu_emulation {

namespace {
/// Both ends of a copy are looked at when it runs: they may have been freed since it was enqueued.
void check_end(const void* address, size_t bytes, Access access, const char* what) {
  const Allocation* a = find_allocation(address);
  const bool inside = a == nullptr ? !in_device_range(address)
                                   : !a->freed && reinterpret_cast<uintptr_t>(address) + bytes <= a->address + a->bytes;
  if (!inside) {
    report("out-of-bounds", "%s of %zu bytes at %p: %s", what, bytes, address,
           a != nullptr && a->freed ? "the memory was freed" : "it reaches beyond the allocation");
    return;
  }
  if (a != nullptr) check_range(address, bytes, access, what);
}

bool fits(cudaMemcpyKind kind, bool to_device, bool from_device) {
  switch (kind) {
    case cudaMemcpyHostToDevice:
      return to_device && !from_device;
    case cudaMemcpyDeviceToHost:
      return !to_device && from_device;
    case cudaMemcpyDeviceToDevice:
      return to_device && from_device;
    default:
      return true;
  }
}

Operation copy_operation(void* to, const void* from, size_t bytes, std::shared_ptr<std::vector<char>> staged) {
  return {.name = "cudaMemcpyAsync", .run = [=] {
            const void* source = staged ? staged->data() : from;
            if (!staged) check_end(from, bytes, Access::read, "the source of a copy");
            check_end(to, bytes, Access::write, "the target of a copy");
            std::memmove(to, source, bytes);
            return Progress::done;
          }};
}
}  // namespace

}  // namespace gpu_emulation

using namespace gpu_emulation;

extern "C" {

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  const std::lock_guard lock(api_mutex());
  if (breaks_capture("cudaMalloc")) return remember(cudaErrorStreamCaptureUnsupported);
  if (const cudaError_t error = device_error(current_device()); error != cudaSuccess) return remember(error);
  ++running_counters().allocations;
  *memory = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (ordered_fault("cudaMalloc")) return remember(cudaErrorMemoryAllocation);
  *memory = allocate_device_memory(bytes, current_device());
  return remember(*memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t cudaFree(void* memory) {
  const std::lock_guard lock(api_mutex());
  if (memory == nullptr) return cudaSuccess;
  if (breaks_capture("cudaFree")) return remember(cudaErrorStreamCaptureUnsupported);
  ++running_counters().frees;
  drain_device(current_device());
  return remember(free_device_memory(memory) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream) {
  const std::lock_guard lock(api_mutex());
  if (memory == nullptr) return cudaSuccess;
  ++running_counters().frees;
  enqueue(stream, {.name = "cudaFreeAsync", .run = [memory] {
                     const Allocation* a = find_allocation(memory);
                     if (a != nullptr && !a->freed) check_range(memory, a->bytes, Access::write, "cudaFreeAsync");
                     free_device_memory(memory);
                     return Progress::done;
                   }});
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  const std::lock_guard lock(api_mutex());
  if (breaks_capture("cudaMallocHost")) return remember(cudaErrorStreamCaptureUnsupported);
  ++running_counters().allocations;
  *memory = allocate_pinned(bytes, current_device());
  return remember(*memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) {
  return cudaMallocHost(memory, bytes);
}

cudaError_t cudaFreeHost(void* memory) {
  const std::lock_guard lock(api_mutex());
  if (memory == nullptr) return cudaSuccess;
  ++running_counters().frees;
  drain_device(current_device());
  return remember(free_pinned(memory) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const std::lock_guard lock(api_mutex());
  const MemoryUse use = memory_use(current_device());
  *total = use.total;
  *free = use.total - use.live;
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const std::lock_guard lock(api_mutex());
  if (const cudaError_t error = device_error(current_device()); error != cudaSuccess) return remember(error);
  const bool to_device = is_device_memory(to), from_device = is_device_memory(from);
  if (!fits(kind, to_device, from_device)) {
    report("memcpy-kind", "cudaMemcpyAsync of kind %d from %s to %s memory", static_cast<int>(kind),
           from_device ? "device" : "host", to_device ? "device" : "host");
    return remember(cudaErrorInvalidValue);
  }
  if (bytes == 0) return cudaSuccess;
  const bool pageable_source = !from_device && !is_pinned(from), pageable_target = !to_device && !is_pinned(to);
  if ((pageable_source || pageable_target) && !is_legacy(stream) && stream->capture != nullptr &&
      breaks_capture("a copy with pageable memory"))
    return remember(cudaErrorStreamCaptureUnsupported);
  // The driver reads pageable memory at the call, and a copy to pageable memory is done when the call returns.
  std::shared_ptr<std::vector<char>> staged;
  if (pageable_source) {
    const char* source = static_cast<const char*>(from);
    staged = std::make_shared<std::vector<char>>(source, source + bytes);
  }
  enqueue(stream, copy_operation(to, from, bytes, staged));
  if (pageable_target) {
    ++running_counters().synchronizations;
    drain(is_legacy(stream) ? legacy_stream(current_device()) : stream);
  }
  return remember(device_error(current_device()));
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  const std::lock_guard lock(api_mutex());
  if (const cudaError_t error = device_error(current_device()); error != cudaSuccess) return remember(error);
  if (bytes == 0) return cudaSuccess;
  enqueue(stream, {.name = "cudaMemsetAsync", .run = [=] {
                     if (!require_device_range(to, bytes, "cudaMemsetAsync")) return Progress::done;
                     check_range(to, bytes, Access::write, "cudaMemsetAsync");
                     std::memset(to, value, bytes);
                     return Progress::done;
                   }});
  return cudaSuccess;
}

}  // extern "C"
