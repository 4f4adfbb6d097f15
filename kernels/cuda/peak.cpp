// The arithmetic limit of a GPU, as cuBLAS reaches it: products of square matrices that grow until one takes long
// enough to be timed.
#include <algorithm>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/errors.h"

namespace strand {

using gpu::check;

namespace {
/// An event that keeps the time.
class Instant {
 public:
  Instant() { check(cudaEventCreate(&event_), "making an event"); }
  ~Instant() { cudaEventDestroy(event_); }
  Instant(const Instant&) = delete;
  Instant& operator=(const Instant&) = delete;
  void record(cudaStream_t stream) { check(cudaEventRecord(event_, stream), "recording an event"); }
  double seconds_since(const Instant& start) const {
    check(cudaEventSynchronize(event_), "waiting for the GPU");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, start.event_, event_), "reading the GPU's clock");
    return static_cast<double>(milliseconds) / 1e3;
  }

 private:
  cudaEvent_t event_ = nullptr;
};
}  // namespace

PeakRate CudaDevice::measure_peak(PeakKind kind, int rounds) {
  constexpr int least = 256, largest = 8192;
  constexpr double long_enough = 2e-3;  // s
  const cudaDataType type = kind == PeakKind::bf16 ? CUDA_R_16BF : CUDA_R_32F;
  const cudaStream_t on = stream(Stream::compute);
  const float one = 1, zero = 0;
  PeakRate peak{0, kind == PeakKind::bf16 ? "cuBLAS, bf16" : "cuBLAS, fp32"};
  for (int n = least; n <= largest; n *= 2) {
    const size_t bytes = static_cast<size_t>(n) * static_cast<size_t>(n) * (kind == PeakKind::bf16 ? 2 : 4);
    const DeviceMemory a(*this, MemoryKind::device, bytes), b(*this, MemoryKind::device, bytes),
        c(*this, MemoryKind::device, bytes);
    for (const DeviceMemory* matrix : {&a, &b, &c})
      check(cudaMemsetAsync(matrix->data(), 0, bytes, on), "clearing a matrix");
    double shortest = 1e9;
    Instant start, stop;
    for (int round = 0; round <= rounds; ++round) {  // the first one warms up
      start.record(on);
      check(cublasGemmEx(blas_, CUBLAS_OP_N, CUBLAS_OP_N, n, n, n, &one, a.data(), type, n, b.data(), type, n, &zero,
                         c.data(), type, n, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
            "a matrix product of cuBLAS");
      stop.record(on);
      const double seconds = stop.seconds_since(start);
      if (round > 0) shortest = std::min(shortest, seconds);
    }
    peak.flops = std::max(peak.flops, 2.0 * n * n * n / shortest);
    if (shortest > long_enough) break;
  }
  return peak;
}

}  // namespace strand
