#pragma once
// The host's side of all seeded programs.
#include <vector>

#include "gpu_emulation/seeded_programs/programs.h"
#include "kernels/cuda/gpu.cuh"
#include "kernels/cuda/ptx.cuh"

namespace seeded_programs {

using namespace strand;

inline cudaStream_t make_stream() {
  cudaStream_t stream = nullptr;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  return stream;
}
inline cudaStream_t stream() {
  static const cudaStream_t s = make_stream();
  return s;
}
inline cudaStream_t second_stream() {
  static const cudaStream_t s = make_stream();
  return s;
}
inline cudaEvent_t make_event() {
  cudaEvent_t event = nullptr;
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  return event;
}

template <typename T = float>
T* device_memory(size_t n) {
  void* memory = nullptr;
  cudaMalloc(&memory, n * sizeof(T));
  return static_cast<T*>(memory);
}

inline __global__ void fill(float* to, float value, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) to[i] = value;
}
inline __global__ void add(float* to, const float* from, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) to[i] += from[i];
}

inline float* ones(int n) {
  float* memory = device_memory(static_cast<size_t>(n));
  GPU_LAUNCH(fill, dim3(static_cast<unsigned>((n + 127) / 128)), dim3(128), 0, stream(), memory, 1.0f, n);
  return memory;
}
/// Whether all n numbers have the value.
inline bool all_are(const float* device, int n, float value, cudaStream_t on) {
  std::vector<float> host(static_cast<size_t>(n));
  cudaMemcpyAsync(host.data(), device, sizeof(float) * host.size(), cudaMemcpyDeviceToHost, on);
  cudaStreamSynchronize(on);
  for (const float x : host)
    if (x != value) return false;
  return true;
}

}  // namespace seeded_programs
