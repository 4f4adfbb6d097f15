#pragma once
// What nvcc adds to C++, for a host compiler: built-in variables, __shared__, barriers, warp operations, atomics.
// Types, enumerations and conversions of bf16 come from NVIDIA's own headers. kernels/cuda/gpu.cuh includes this file
// where nvcc does not compile.
#if defined(__CUDACC__)
#error "kernel_language.h is for host compilers"
#endif
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstring>

#include "gpu_emulation/device_hooks.h"
#include "gpu_emulation/kernel_math.h"

// One block runs at a time, so static memory of the program is as good as shared memory of a block. Clang puts it into
// a section of its own, so that its bounds are known and it can be spoiled before each block; GCC refuses that in
// templates.
#undef __shared__
#if defined(__clang__)
#define __shared__ static __attribute__((section("gpu_emulation_shared")))
#else
#define __shared__ static
#endif
#define __launch_bounds__(...)

// Plain variables, because gridDim is also a field of cudaLaunchConfig_t. threadIdx is set whenever a thread goes on.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace gpu_emulation {

template <typename T>
uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>, "lanes exchange at most 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}
template <typename T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

// The accesses of an atomic operation are no plain accesses, which the checker would take for a race.
#define GPU_EMULATION_UNCHECKED __attribute__((no_sanitize("thread"), noinline))
template <typename T>
GPU_EMULATION_UNCHECKED T unchecked_load(const T* p) {
  return *p;
}
template <typename T>
GPU_EMULATION_UNCHECKED void unchecked_store(T* p, T value) {
  *p = value;
}

/// A block's threads share one thread of the host, and no other block runs meanwhile: this is atomic.
template <typename T, typename Change>
T read_modify_write(T* p, const Change& change, Site site) {
  atomic_access(p, sizeof(T), site);
  const T before = unchecked_load(p);
  unchecked_store(p, static_cast<T>(change(before)));
  return before;
}

}  // namespace gpu_emulation

#define GPU_EMULATION_SITE ::gpu_emulation::Site site = ::gpu_emulation::Site::here(__builtin_FILE(), __builtin_LINE())

// ---- barriers and fences
inline void __syncthreads(GPU_EMULATION_SITE) {
  ::gpu_emulation::block_barrier(::gpu_emulation::BarrierKind::sync, 0, site);
}
inline int __syncthreads_count(int predicate, GPU_EMULATION_SITE) {
  return ::gpu_emulation::block_barrier(::gpu_emulation::BarrierKind::count, predicate, site);
}
inline int __syncthreads_or(int predicate, GPU_EMULATION_SITE) {
  return ::gpu_emulation::block_barrier(::gpu_emulation::BarrierKind::any, predicate, site);
}
inline int __syncthreads_and(int predicate, GPU_EMULATION_SITE) {
  return ::gpu_emulation::block_barrier(::gpu_emulation::BarrierKind::all, predicate, site);
}
inline void __threadfence_block() {
  ::gpu_emulation::fence(::gpu_emulation::FenceScope::block);
}
inline void __threadfence() {
  ::gpu_emulation::fence(::gpu_emulation::FenceScope::device);
}
inline void __threadfence_system() {
  ::gpu_emulation::fence(::gpu_emulation::FenceScope::system);
}
[[noreturn]] inline void __trap(GPU_EMULATION_SITE) {
  ::gpu_emulation::trap("__trap()", site);
}

// ---- warp operations
inline void __syncwarp(unsigned mask = 0xffffffffu, GPU_EMULATION_SITE) {
  ::gpu_emulation::warp_operation(::gpu_emulation::WarpKind::sync, mask, 0, 0, 32, site);
}

#define GPU_EMULATION_SHUFFLE(name, kind, Argument)                                                                 \
  template <typename T>                                                                                             \
  T name(unsigned mask, T value, Argument argument, int width = 32, GPU_EMULATION_SITE) {                           \
    return ::gpu_emulation::from_bits<T>(::gpu_emulation::warp_operation(::gpu_emulation::WarpKind::kind, mask,     \
                                                                         ::gpu_emulation::to_bits(value),           \
                                                                         static_cast<int>(argument), width, site)); \
  }
GPU_EMULATION_SHUFFLE(__shfl_sync, shuffle, int)
GPU_EMULATION_SHUFFLE(__shfl_up_sync, shuffle_up, unsigned)
GPU_EMULATION_SHUFFLE(__shfl_down_sync, shuffle_down, unsigned)
GPU_EMULATION_SHUFFLE(__shfl_xor_sync, shuffle_xor, int)
#undef GPU_EMULATION_SHUFFLE

#define GPU_EMULATION_VOTE(Result, name, kind)                                                                        \
  inline Result name(unsigned mask, int predicate, GPU_EMULATION_SITE) {                                              \
    return static_cast<Result>(                                                                                       \
        ::gpu_emulation::warp_operation(::gpu_emulation::WarpKind::kind, mask, predicate != 0 ? 1 : 0, 0, 32, site)); \
  }
GPU_EMULATION_VOTE(unsigned, __ballot_sync, ballot)
GPU_EMULATION_VOTE(int, __any_sync, any)
GPU_EMULATION_VOTE(int, __all_sync, all)
#undef GPU_EMULATION_VOTE

template <typename T>
unsigned __match_any_sync(unsigned mask, T value, GPU_EMULATION_SITE) {
  return static_cast<unsigned>(::gpu_emulation::warp_operation(::gpu_emulation::WarpKind::match_any, mask,
                                                               ::gpu_emulation::to_bits(value), 0, 32, site));
}

#define GPU_EMULATION_REDUCE(T, name, kind)                                                            \
  inline T name(unsigned mask, T value, GPU_EMULATION_SITE) {                                          \
    return static_cast<T>(::gpu_emulation::warp_operation(::gpu_emulation::WarpKind::kind, mask,       \
                                                          static_cast<unsigned>(value), 0, 32, site)); \
  }
GPU_EMULATION_REDUCE(unsigned, __reduce_add_sync, add)
GPU_EMULATION_REDUCE(int, __reduce_add_sync, add)
GPU_EMULATION_REDUCE(unsigned, __reduce_min_sync, min_unsigned)
GPU_EMULATION_REDUCE(int, __reduce_min_sync, min_signed)
GPU_EMULATION_REDUCE(unsigned, __reduce_max_sync, max_unsigned)
GPU_EMULATION_REDUCE(int, __reduce_max_sync, max_signed)
GPU_EMULATION_REDUCE(unsigned, __reduce_and_sync, bit_and)
GPU_EMULATION_REDUCE(unsigned, __reduce_or_sync, bit_or)
GPU_EMULATION_REDUCE(unsigned, __reduce_xor_sync, bit_xor)
#undef GPU_EMULATION_REDUCE

// ---- loads and stores with hints for caches
template <typename T>
T __ldg(const T* p) {
  return *p;
}
template <typename T>
T __ldcs(const T* p) {
  return *p;
}
template <typename T>
T __ldcg(const T* p) {
  return *p;
}
template <typename T>
void __stcs(T* p, T value) {
  *p = value;
}
template <typename T>
void __stcg(T* p, T value) {
  *p = value;
}

// ---- atomics
#define GPU_EMULATION_ATOMIC(name, expression)                      \
  template <typename T>                                             \
  T name(T* p, std::type_identity_t<T> value, GPU_EMULATION_SITE) { \
    return ::gpu_emulation::read_modify_write(                      \
        p, [value](T before) { return expression; }, site);         \
  }
GPU_EMULATION_ATOMIC(atomicAdd, before + value)
GPU_EMULATION_ATOMIC(atomicSub, before - value)
GPU_EMULATION_ATOMIC(atomicMax, before < value ? value : before)
GPU_EMULATION_ATOMIC(atomicMin, value < before ? value : before)
GPU_EMULATION_ATOMIC(atomicExch, ((void)before, value))
GPU_EMULATION_ATOMIC(atomicOr, before | value)
GPU_EMULATION_ATOMIC(atomicAnd, before& value)
GPU_EMULATION_ATOMIC(atomicXor, before ^ value)
#undef GPU_EMULATION_ATOMIC
template <typename T>
T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> value, GPU_EMULATION_SITE) {
  return ::gpu_emulation::read_modify_write(
      p, [=](T before) { return before == expected ? value : before; }, site);
}
