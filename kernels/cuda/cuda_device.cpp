#include "kernels/cuda/cuda_device.h"

#include <algorithm>

#include "core/arena.h"
#include "core/error.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/errors.h"
#include "kernels/cuda/workspaces.h"

namespace strand {

using gpu::check;

namespace {
class CudaEvent final : public Event {
 public:
  CudaEvent(const CudaDevice& device, unsigned flags) : device_(device) {
    check(cudaEventCreateWithFlags(&event_, flags), "making an event");
  }
  ~CudaEvent() override { cudaEventDestroy(event_); }
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;

  void record(Stream stream) override {
    check(cudaEventRecord(event_, device_.stream(stream)), "recording an event");
    recorded_ = true;
  }
  void hold(Stream stream) override {
    if (recorded_) check(cudaStreamWaitEvent(device_.stream(stream), event_), "ordering two streams");
  }
  // Other threads call this too, and the current GPU of a thread is the first one until it chooses another.
  bool happened() const override {
    if (!recorded_) return true;
    device_.choose();
    const cudaError_t state = cudaEventQuery(event_);
    if (state == cudaErrorNotReady) return false;
    check(state, "asking for an event");
    return true;
  }
  void wait() override {
    if (!recorded_) return;
    device_.choose();
    check(cudaEventSynchronize(event_), "waiting for the GPU");
  }
  double seconds_since(const Event& earlier) const override {
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, static_cast<const CudaEvent&>(earlier).event_, event_),
          "reading the GPU's clock");
    return milliseconds / 1e3;
  }

 private:
  const CudaDevice& device_;
  cudaEvent_t event_ = nullptr;
  bool recorded_ = false;
};
}  // namespace

std::unique_ptr<Device> make_cuda_device(const CudaDeviceOptions& options) {
  return std::make_unique<CudaDevice>(options);
}

int cuda_device_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

CudaDevice::CudaDevice(const CudaDeviceOptions& options) : options_(options) {
  int count = 0;
  const cudaError_t driver = cudaGetDeviceCount(&count);
  require(
      driver == cudaSuccess && count > 0,
      "run.device: cuda, but no GPU can be used: {} ({}). `nvidia-smi` shows what the driver sees; device: cpu runs "
      "without one",
      cudaGetErrorString(driver), cudaGetErrorName(driver));
  require(options_.gpu >= 0 && options_.gpu < count, "GPU number {} is asked for, and this process sees {}",
          options_.gpu, count);
  choose();
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, options_.gpu), "asking for the GPU's properties");
  gpu_name_ = properties.name;
  multiprocessors_ = properties.multiProcessorCount;
  capability_ = 10 * properties.major + properties.minor;
  constexpr int least_capability = 80;
  require(capability_ >= least_capability,
          "GPU {} ({}) has compute capability {}.{}, and strand's kernels need 8.0 (A100) or later", options_.gpu,
          gpu_name_, properties.major, properties.minor);
  make_streams();
  check(cublasCreate(&blas_), "starting cuBLAS");
  // A product that cuBLAS cuts along the sum may add its parts in bf16 unless this forbids it: on an H200, parts of a
  // sum of 1280 products then came out wrong in the first digit.
  check(cublasSetMathMode(
            blas_, static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)),
        "setting the precision of cuBLAS");
  blas_workspace_ = DeviceMemory(*this, MemoryKind::device, gpu::blas_workspace_bytes);
  check(cublasSetStream(blas_, stream(Stream::compute)), "cublasSetStream");
  check(cublasSetWorkspace(blas_, blas_workspace_.data(), blas_workspace_.bytes()), "cublasSetWorkspace");
  trail_ = std::make_unique<CudaTrail>(*this);
}

void CudaDevice::choose() const {
  check(cudaSetDevice(options_.gpu), "choosing a GPU");
}

void CudaDevice::make_streams() {
  int least = 0, greatest = 0;
  check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "asking for priorities of streams");
  for (int s = 0; s < stream_count; ++s) {
    // Communication has priority, as other ranks wait for it.
    const int priority = static_cast<Stream>(s) == Stream::communication ? greatest : least;
    check(cudaStreamCreateWithPriority(&streams_[s], cudaStreamNonBlocking, priority), "making a stream");
  }
}

CudaDevice::~CudaDevice() {
  for (cudaStream_t stream : streams_)
    if (stream != nullptr) cudaStreamSynchronize(stream);
  if (blas_ != nullptr) cublasDestroy(blas_);
  for (cudaStream_t stream : streams_)
    if (stream != nullptr) cudaStreamDestroy(stream);
}

DeviceTraits CudaDevice::traits() const {
  return cuda_traits(multiprocessors_);
}

std::unique_ptr<Ops> CudaDevice::make_ops() {
  return std::make_unique<CudaOps>(*this);
}

void* CudaDevice::allocate(MemoryKind kind, size_t bytes) {
  void* memory = nullptr;
  const size_t asked = std::max(bytes, Arena::alignment);
  const cudaError_t error = kind == MemoryKind::staging ? cudaMallocHost(&memory, asked) : cudaMalloc(&memory, asked);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // it is told below, and not once more by the next call
    fail("out of {} memory{}: {:.2f} GiB asked for; a smaller micro-batch, model or recompute setting helps",
         kind == MemoryKind::staging ? "pinned" : "GPU", CudaTrail::where_host_is(),
         static_cast<double>(bytes) / (1 << 30));
  }
  check(error, "allocating memory");
  if (kind == MemoryKind::device) {
    held_.emplace(memory, asked);
    held_bytes_ += asked;
    peak_bytes_ = std::max(peak_bytes_, held_bytes_);
  }
  return memory;
}

void CudaDevice::deallocate(MemoryKind kind, void* memory) noexcept {
  if (const auto held = held_.find(memory); held != held_.end()) {
    held_bytes_ -= held->second;
    held_.erase(held);
  }
  if (kind == MemoryKind::staging)
    cudaFreeHost(memory);
  else
    cudaFree(memory);
}

AvailableMemory CudaDevice::available_memory() const {
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for free memory");
  return {free, "free memory of GPU " + std::to_string(options_.gpu) + " (cudaMemGetInfo)"};
}

void CudaDevice::upload(const void* host, const Tensor& device) {
  if (device.bytes() == 0) return;
  enqueue_upload(host, device, Stream::compute);
  check(cudaStreamSynchronize(stream(Stream::compute)), "copying to the GPU");
}

void CudaDevice::download(const Tensor& device, void* host) {
  if (device.bytes() == 0) return;
  enqueue_download(device, host, Stream::compute);
  check(cudaStreamSynchronize(stream(Stream::compute)), "copying from the GPU");
}

void CudaDevice::enqueue_upload(const void* staging, const Tensor& device, Stream on) {
  if (device.bytes() == 0) return;
  check(cudaMemcpyAsync(device.data, staging, device.bytes(), cudaMemcpyHostToDevice, stream(on)),
        "copying to the GPU");
}

void CudaDevice::enqueue_download(const Tensor& device, void* staging, Stream on) {
  if (device.bytes() == 0) return;
  check(cudaMemcpyAsync(staging, device.data, device.bytes(), cudaMemcpyDeviceToHost, stream(on)),
        "copying from the GPU");
}

void CudaDevice::synchronize() {
  for (cudaStream_t stream : streams_) check(cudaStreamSynchronize(stream), "waiting for the GPU");
}

std::unique_ptr<Event> CudaDevice::make_event() {
  return std::make_unique<CudaEvent>(*this, cudaEventDisableTiming);
}

std::unique_ptr<Event> CudaDevice::make_timed_event() {
  return std::make_unique<CudaEvent>(*this, cudaEventDefault);
}

void* CudaDevice::workspace(size_t bytes) {
  if (bytes > workspace_.bytes()) {
    check(cudaStreamSynchronize(stream(Stream::compute)), "waiting for the GPU");
    workspace_ = DeviceMemory();
    workspace_ = DeviceMemory(*this, MemoryKind::device, bytes);
  }
  return workspace_.data();
}

std::string CudaDevice::description() const {
  int driver = 0, runtime = 0, blas = 0;
  check(cudaDriverGetVersion(&driver), "asking for the driver's version");
  check(cudaRuntimeGetVersion(&runtime), "asking for the runtime's version");
  check(cublasGetVersion(blas_, &blas), "asking for the version of cuBLAS");
  return fmt::format("{}, sm_{}, {} multiprocessors, driver for CUDA {}.{}, CUDA {}.{}, cuBLAS {}", gpu_name_,
                     capability_, multiprocessors_, driver / 1000, driver % 1000 / 10, runtime / 1000,
                     runtime % 1000 / 10, blas);
}

}  // namespace strand
