#pragma once
// The CUDA language as this backend uses it: the one header that every kernel file includes. nvcc compiles the files
// for GPUs, and a plain C++ compiler compiles the same files for tests/gpu_emulation, which runs one fiber per CUDA
// thread. What both of them have to accept:
//
// - Kernels are launched by GPU_LAUNCH, never by <<<>>>. Dynamic shared memory comes from GPU_DYN_SHARED only. Static
//   __shared__ variables stand inside functions. What is read or written 16 bytes at a time is __align__(16) and goes
//   through load16 and store16.
// - Every barrier is reached by all threads of a block; no thread returns before a later barrier. Warp operations use
//   the full mask in code that all lanes of the warp reach. Between a write and a read of shared memory by two lanes
//   of one warp stands __syncwarp(): lanes are not assumed to run in step, and a shuffle orders no memory.
// - No block waits for another one. There are no __device__ or __constant__ variables, no device lambdas, no inline
//   assembly outside ptx.cuh, no floating-point atomics (sums have one order, so that the same shapes give the same
//   bits).
// - Products of sizes are computed in int64_t or size_t.
// - Host code enqueues on the stream it was given, never on the default stream, and allocates nothing.
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels/cuda/errors.h"

namespace strand::gpu {

/// Dynamic shared memory above this needs to be asked for, kernel by kernel. launch() does.
constexpr size_t default_shared_bytes = 48 << 10;

}  // namespace strand::gpu

#if defined(__CUDACC__)

/// `T* name`: the dynamic shared memory of the block, aligned to 128 bytes.
#define GPU_DYN_SHARED(T, name)                                         \
  extern __shared__ __align__(128) unsigned char gpu_dynamic_shared_[]; \
  T* const name = reinterpret_cast<T*>(gpu_dynamic_shared_)

namespace strand::gpu {

/// Enqueues a kernel. Arguments are converted to the types of its parameters. Throws Error, naming the kernel, when
/// the launch is refused; faults of the kernel itself show at a later wait.
template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            cudaStream_t stream, Arguments&&... arguments) {
  if (shared_bytes > default_shared_bytes)
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)),
          name);
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(std::forward<Arguments>(arguments))...), name);
}

__device__ inline void check_alignment(const void*, size_t) {}

}  // namespace strand::gpu

#else

// Used instead of nvcc. Only the build for the emulation has this header on its include path.
#include <gpu_emulation/kernel_language.h>

#define GPU_DYN_SHARED(T, name) T* const name = static_cast<T*>(::gpu_emulation::dynamic_shared())

namespace strand::gpu {

template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            cudaStream_t stream, Arguments&&... arguments) {
  if (shared_bytes > default_shared_bytes)
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)),
          name);
  check(::gpu_emulation::launch(name, kernel, grid, block, shared_bytes, stream, std::forward<Arguments>(arguments)...),
        name);
}

using ::gpu_emulation::check_alignment;

}  // namespace strand::gpu

#endif

/// GPU_LAUNCH(kernel, grid, block, bytes of dynamic shared memory, stream, arguments...). A kernel template with
/// several arguments stands in parentheses: GPU_LAUNCH((scale_kernel<T, 4>), ...).
#define GPU_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  ::strand::gpu::launch(#kernel, kernel, grid, block, shared_bytes, stream __VA_OPT__(, ) __VA_ARGS__)

namespace strand::gpu {

/// 16 bytes of elements: 4 floats, 8 bf16, 2 doubles.
template <typename T>
struct alignas(16) Pack {
  static constexpr int size = 16 / sizeof(T);
  T v[size];
  __host__ __device__ T& operator[](int i) { return v[i]; }
  __host__ __device__ const T& operator[](int i) const { return v[i]; }
};

/// One load of 16 bytes. `from` is a multiple of 16.
template <typename T>
__device__ inline Pack<T> load16(const T* from) {
  check_alignment(from, 16);
  const uint4 raw = *reinterpret_cast<const uint4*>(from);
  Pack<T> pack;
  memcpy(&pack, &raw, 16);
  return pack;
}

/// One store of 16 bytes. `to` is a multiple of 16.
template <typename T>
__device__ inline void store16(T* to, const Pack<T>& pack) {
  check_alignment(to, 16);
  uint4 raw;
  memcpy(&raw, &pack, 16);
  *reinterpret_cast<uint4*>(to) = raw;
}

__host__ __device__ inline float to_float(float x) {
  return x;
}
__host__ __device__ inline float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}

/// x in another type, rounded to nearest even.
template <typename T>
__host__ __device__ inline T from_float(float x);
template <>
__host__ __device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__host__ __device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16(x);
}

/// ⌈a / b⌉ for a ≥ 0, b > 0.
template <typename T>
__host__ __device__ constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}

}  // namespace strand::gpu
