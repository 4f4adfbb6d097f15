#pragma once
// An NVIDIA GPU: its memory, its streams, cuBLAS, and a step that is captured into a graph.
#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <unordered_map>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/trail.h"
#include "kernels/device.h"

namespace strand {

class CudaDevice final : public Device {
 public:
  /// GPU number `gpu` of this process. Throws Error when it cannot be used, with the driver's reason.
  explicit CudaDevice(const CudaDeviceOptions& options);
  ~CudaDevice() override;
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  const char* name() const override { return "cuda"; }
  DeviceTraits traits() const override;
  std::unique_ptr<Ops> make_ops() override;
  void* allocate(MemoryKind kind, size_t bytes) override;
  void deallocate(MemoryKind kind, void* memory) noexcept override;
  AvailableMemory available_memory() const override;
  bool shares_host_memory() const override { return false; }
  uint64_t peak_bytes() const override { return peak_bytes_; }
  void upload(const void* host, const Tensor& device) override;
  void download(const Tensor& device, void* host) override;
  void enqueue_upload(const void* staging, const Tensor& device, Stream stream) override;
  void enqueue_download(const Tensor& device, void* staging, Stream stream) override;
  void synchronize() override;
  std::unique_ptr<Event> make_event() override;
  std::unique_ptr<Event> make_timed_event() override;
  std::unique_ptr<Recording> make_recording() override;
  /// The first run of a recording enqueues its operations directly, so that everything that is made once is made. The
  /// second run is captured into a graph, which it and later runs launch. The body is captured again only when
  /// workspace() has moved meanwhile, as the graph would use memory that is gone.
  Ran run(Recording& recording, const std::function<void()>& body) override;
  WorkTrail* trail() override { return trail_.get(); }
  PeakRate measure_peak(PeakKind kind, int rounds) override;
  std::string description() const override;

  /// Makes this GPU the current one of the calling thread.
  void choose() const;
  cudaStream_t stream(Stream stream) const { return streams_[static_cast<int>(stream)]; }
  cublasHandle_t blas() const { return blas_; }
  const CudaDeviceOptions& options() const { return options_; }
  int multiprocessors() const { return multiprocessors_; }
  /// Memory of at least `bytes` for partial results of one operation, aligned to 256 bytes, with undefined contents.
  /// The next operation on the compute stream uses the same memory. It grows to what the largest operation needs.
  void* workspace(size_t bytes);

 private:
  void make_streams();

  CudaDeviceOptions options_;
  std::string gpu_name_;
  int multiprocessors_ = 0;
  int capability_ = 0;  ///< 90 for sm_90
  cudaStream_t streams_[stream_count] = {};
  cublasHandle_t blas_ = nullptr;
  std::unordered_map<void*, size_t> held_;  ///< sizes of the device memory that was not given back
  size_t held_bytes_ = 0, peak_bytes_ = 0;
  DeviceMemory blas_workspace_;
  DeviceMemory workspace_;
  std::unique_ptr<CudaTrail> trail_;
};

}  // namespace strand
