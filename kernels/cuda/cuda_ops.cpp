// Construction, memory and workspace of the CUDA backend.
#include "kernels/cuda/cuda_ops.h"

#include "core/arena.h"
#include "core/error.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/errors.h"

namespace strand {

using gpu::check;

namespace {
// What cuBLAS asks for on sm_90 (its documentation, cublasSetWorkspace); with a fixed workspace, its results repeat.
constexpr size_t blas_workspace_bytes = 32 << 20;
}  // namespace

std::unique_ptr<Ops> make_cuda_ops(int gpu) {
  return std::make_unique<CudaOps>(gpu);
}

int cuda_device_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

CudaOps::CudaOps(int gpu) : gpu_(gpu) {
  check(cudaSetDevice(gpu_), "choosing a GPU");
  check(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, gpu_), "asking for multiprocessors");
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
  check(cublasCreate(&blas_), "starting cuBLAS");
  check(cudaMalloc(&blas_workspace_, blas_workspace_bytes), "the workspace of cuBLAS");
  check(cublasSetStream(blas_, stream_), "cublasSetStream");
  check(cublasSetWorkspace(blas_, blas_workspace_, blas_workspace_bytes), "cublasSetWorkspace");
}

CudaOps::~CudaOps() {
  cudaStreamSynchronize(stream_);
  cublasDestroy(blas_);
  cudaFree(blas_workspace_);
  cudaFree(workspace_);
  cudaStreamDestroy(stream_);
}

void* CudaOps::allocate(size_t bytes) {
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, bytes == 0 ? Arena::alignment : bytes);
  require(error != cudaErrorMemoryAllocation,
          "out of GPU memory: {:.2f} GiB asked for; a smaller micro-batch, model or recompute setting helps",
          static_cast<double>(bytes) / (1 << 30));
  check(error, "cudaMalloc");
  return memory;
}

void CudaOps::deallocate(void* memory) noexcept {
  cudaFree(memory);
}

void CudaOps::upload(const void* host, const Tensor& device) {
  if (device.bytes() == 0) return;
  check(cudaMemcpyAsync(device.data, host, device.bytes(), cudaMemcpyHostToDevice, stream_), "upload");
  check(cudaStreamSynchronize(stream_), "upload");
}

void CudaOps::download(const Tensor& device, void* host) {
  if (device.bytes() == 0) return;
  check(cudaMemcpyAsync(host, device.data, device.bytes(), cudaMemcpyDeviceToHost, stream_), "download");
  check(cudaStreamSynchronize(stream_), "download");
}

void CudaOps::synchronize() {
  check(cudaStreamSynchronize(stream_), "waiting for the GPU");
}

void* CudaOps::workspace(size_t bytes) {
  if (bytes > workspace_bytes_) {
    synchronize();
    cudaFree(workspace_);
    workspace_ = nullptr;
    workspace_bytes_ = 0;
    workspace_ = allocate(bytes);
    workspace_bytes_ = bytes;
  }
  return workspace_;
}

}  // namespace strand
