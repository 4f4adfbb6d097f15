// The CUDA runtime at its C interface: devices, streams, events, launches, errors. runtime_memory_api.cpp has memory,
// graphs.cpp graphs. Meaning and errors are those of the CUDA Runtime API reference.
#include "gpu_emulation/runtime_api.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>

#include "gpu_emulation/checker.h"
#include "gpu_emulation/counters.h"
#include "gpu_emulation/device_memory.h"
#include "gpu_emulation/graphs.h"
#include "gpu_emulation/grid.h"
#include "gpu_emulation/reports.h"

namespace gpu_emulation {

namespace {
constexpr int most_block_threads = 1024;
constexpr unsigned most_block_z = 64;
constexpr unsigned most_grid_yz = 65535;
constexpr int default_shared_bytes = 48 << 10;
constexpr int opt_in_shared_bytes = 227 << 10;

thread_local cudaError_t last_error = cudaSuccess;

/// Dynamic shared memory that kernels were allowed beyond the default.
std::map<const void*, int>& shared_limits() {
  static auto& limits = *new std::map<const void*, int>;
  return limits;
}

/// "" or what is wrong with the launch.
const char* fault_of(const LaunchShape& shape, const void* function) {
  const auto threads = static_cast<uint64_t>(shape.block.x) * shape.block.y * shape.block.z;
  if (threads == 0 || threads > most_block_threads || shape.block.z > most_block_z) return "a block of a bad size";
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0 || shape.grid.x > 0x7fffffffu ||
      shape.grid.y > most_grid_yz || shape.grid.z > most_grid_yz)
    return "a grid of a bad size";
  const auto limit = shared_limits().find(function);
  const int allowed = limit == shared_limits().end() ? default_shared_bytes : limit->second;
  return shape.shared_bytes > static_cast<size_t>(allowed) ? "more dynamic shared memory than the kernel was allowed"
                                                           : "";
}

double now_milliseconds() {
  using namespace std::chrono;
  return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}
}  // namespace

cudaError_t remember(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

cudaError_t enqueue_launch(const LaunchShape& shape, const KernelCall& call, cudaStream_t stream) {
  const std::lock_guard lock(api_mutex());
  if (const cudaError_t error = device_error(current_device()); error != cudaSuccess) return remember(error);
  if (const char* fault = fault_of(shape, call.function); *fault != '\0') {
    report("launch-configuration", "%s: %s (grid %u %u %u, block %u %u %u, %zu bytes of shared memory)", call.name,
           fault, shape.grid.x, shape.grid.y, shape.grid.z, shape.block.x, shape.block.y, shape.block.z,
           shape.shared_bytes);
    return remember(cudaErrorInvalidConfiguration);
  }
  ++running_counters().launches;
  auto kept = std::make_shared<KernelCall>(call);
  enqueue(stream, {.name = call.name,
                   .run =
                       [shape, kept] {
                         const cudaError_t error = run_grid(shape, *kept);
                         if (error != cudaSuccess) set_device_error(current_device(), error);
                         return Progress::done;
                       },
                   .kernel = kept,
                   .shape = shape});
  return cudaSuccess;
}

}  // namespace gpu_emulation

using namespace gpu_emulation;

extern "C" {

// ---- devices
cudaError_t cudaGetDeviceCount(int* count) {
  *count = device_count();
  return *count > 0 ? cudaSuccess : remember(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= device_count()) return remember(cudaErrorInvalidDevice);
  set_current_device(device);
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device();
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = 4;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = opt_in_shared_bytes;
      return cudaSuccess;
    case cudaDevAttrClockRate:
    case cudaDevAttrMemoryClockRate:
      *value = 1'000'000;  // kHz
      return cudaSuccess;
    case cudaDevAttrL2CacheSize:
      *value = 32 << 20;
      return cudaSuccess;
    default:
      return remember(cudaErrorInvalidValue);
  }
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "emulated GPU");
  properties->major = 9;
  properties->multiProcessorCount = 4;
  properties->totalGlobalMem = memory_use(device).total;
  properties->sharedMemPerBlockOptin = opt_in_shared_bytes;
  properties->warpSize = 32;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  const std::lock_guard lock(api_mutex());
  if (breaks_capture("cudaDeviceSynchronize")) return remember(cudaErrorStreamCaptureUnsupported);
  ++running_counters().synchronizations;
  drain_device(current_device());
  return remember(device_error(current_device()));
}

// ---- streams
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const std::lock_guard lock(api_mutex());
  if (flags != cudaStreamNonBlocking)
    report("legacy-stream", "a stream that the legacy default stream waits for: cudaStreamNonBlocking is missing");
  *stream = make_stream(current_device());
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const std::lock_guard lock(api_mutex());
  if (stream == nullptr || !require_usable(stream, "cudaStreamDestroy")) return remember(cudaErrorInvalidValue);
  destroy_stream(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const std::lock_guard lock(api_mutex());
  if (breaks_capture("cudaStreamSynchronize")) return remember(cudaErrorStreamCaptureUnsupported);
  ++running_counters().synchronizations;
  if (is_legacy(stream))
    drain_device(current_device());
  else if (require_usable(stream, "cudaStreamSynchronize"))
    drain(stream);
  return remember(device_error(current_device()));
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const std::lock_guard lock(api_mutex());
  if (breaks_capture("cudaStreamQuery")) return remember(cudaErrorStreamCaptureUnsupported);
  nudge(current_device());
  if (device_error(current_device()) != cudaSuccess) return remember(device_error(current_device()));
  if (!stream->queue.empty()) return cudaErrorNotReady;
  host_knows(stream->clock);
  return cudaSuccess;
}

// ---- events
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  const std::lock_guard lock(api_mutex());
  // Kept to the end: operations that wait for an event may outlive its owner.
  static auto& all = *new std::vector<std::unique_ptr<CUevent_st>>;
  all.push_back(std::make_unique<CUevent_st>());
  *event = all.back().get();
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  (void)event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const std::lock_guard lock(api_mutex());
  if (capture_record(event, stream)) return cudaSuccess;
  const uint64_t mine = ++event->asked;
  event->recorded = true;
  enqueue(stream, {.name = "cudaEventRecord", .run = [event, mine] {
                     event->done = std::max(event->done, mine);
                     event->clock = current_clock();
                     event->milliseconds = now_milliseconds();
                     return Progress::done;
                   }});
  return remember(device_error(current_device()));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const std::lock_guard lock(api_mutex());
  if (capture_wait(stream, event)) return cudaSuccess;
  if (!event->recorded) {
    report("event-never-recorded", "cudaStreamWaitEvent on an event that was never recorded waits for nothing");
    return cudaSuccess;
  }
  const uint64_t wanted = event->asked;
  enqueue(stream, {.name = "cudaStreamWaitEvent", .run = [event, wanted] {
                     if (event->done < wanted) return Progress::waits_for_event;
                     if (checker_on) join(current_clock(), event->clock);
                     return Progress::done;
                   }});
  return remember(device_error(current_device()));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const std::lock_guard lock(api_mutex());
  if (breaks_capture("cudaEventSynchronize")) return remember(cudaErrorStreamCaptureUnsupported);
  ++running_counters().synchronizations;
  if (!event->recorded) return cudaSuccess;
  const uint64_t wanted = event->asked;
  const int device = current_device();
  drive(device, [event, wanted, device] { return event->done >= wanted || device_error(device) != cudaSuccess; });
  host_knows(event->clock);
  return remember(device_error(device));
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  const std::lock_guard lock(api_mutex());
  if (event->capture != nullptr && breaks_capture("cudaEventQuery of a captured event"))
    return remember(cudaErrorCapturedEvent);
  nudge(current_device());
  if (device_error(current_device()) != cudaSuccess) return remember(device_error(current_device()));
  if (event->recorded && event->done < event->asked) return cudaErrorNotReady;
  host_knows(event->clock);
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const std::lock_guard lock(api_mutex());
  if (!start->recorded || !end->recorded) return remember(cudaErrorInvalidResourceHandle);
  if (start->done < start->asked || end->done < end->asked) return cudaErrorNotReady;
  *milliseconds = static_cast<float>(end->milliseconds - start->milliseconds);
  return cudaSuccess;
}

// ---- kernels
cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  const std::lock_guard lock(api_mutex());
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value > opt_in_shared_bytes) return remember(cudaErrorInvalidValue);
  shared_limits()[function] = value;
  return cudaSuccess;
}

// ---- errors
cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() {
  return last_error;
}

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define GPU_EMULATION_ERROR(name, text) \
  case name:                            \
    return #name;
    GPU_EMULATION_EACH_ERROR(GPU_EMULATION_ERROR)
#undef GPU_EMULATION_ERROR
    default:
      return "unrecognized error code";
  }
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
#define GPU_EMULATION_ERROR(name, text) \
  case name:                            \
    return text;
    GPU_EMULATION_EACH_ERROR(GPU_EMULATION_ERROR)
#undef GPU_EMULATION_ERROR
    default:
      return "unrecognized error code";
  }
}

}  // extern "C"
