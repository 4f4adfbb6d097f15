// Device-side shim: lets g++/clang++ compile a CUDA kernel source as plain C++20 on top of NVIDIA's own
// headers (types, enums, bf16 conversions and the host API keep NVIDIA's definitions).  One fiber per CUDA thread.
#pragma once
#if defined(__CUDACC__)
#error "gpu_emulation/kernel_language.h is for host compilers only"
#endif
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#define GPU_EMULATION 1
#undef __shared__
#if defined(__clang__)
#define __shared__ static __attribute__((section("gpu_emulation_shared")))  // one block runs at a time per process
#else
#define __shared__ static  // gcc: comdat statics cannot share a section
#endif
#define __launch_bounds__(...)
#define GPU_EMULATION_NOSAN __attribute__((no_sanitize("thread")))

namespace gpu_emulation {
struct Self {
  uint3 tid;
  unsigned linear, lane, warp;
};
extern Self* self;  // the running CUDA thread
#define GPU_EMULATION_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define GPU_EMULATION_HERE file, line
enum class BarOp { sync, count, any, all };
enum class WarpOp {
  sync,
  shfl_idx,
  shfl_up,
  shfl_down,
  shfl_xor,
  ballot,
  any,
  all,
  match_any,
  red_add,
  red_min_s,
  red_max_s,
  red_min_u,
  red_max_u,
  red_and,
  red_or,
  red_xor,
  mma,
  ldmatrix
};
int barrier(BarOp op, int pred, const char* file, int line);
uint64_t warp_op(WarpOp op, unsigned mask, uint64_t value, int arg, int width, const char* file, int line);
void fence(int scope);  // 0 block, 1 device, 2 system
void* dynamic_shared();
void atomic_access(const volatile void* p, size_t n, const char* file, int line);
void cp_async(void* smem, const void* gmem, int bytes, int src_bytes, const char* file, int line);
void cp_async_commit();
void cp_async_wait(int pending_groups);
void mma_m16n8k16_bf16(float* d, const unsigned* a, const unsigned* b, const float* c, const char* file, int line);
void ldmatrix_x4(unsigned* r, const void* row, bool trans, const char* file, int line);
void check_access(const void* p, size_t n, bool write, const char* file, int line);
void check_alignment(const void* p, size_t bytes, GPU_EMULATION_SITE);
[[noreturn]] void device_trap(const char* what, const char* file, int line);

struct Launch {
  dim3 grid, block;
  size_t smem;
  cudaStream_t stream;
  const void* func;
  const char* name;
  const void* params;
  size_t params_bytes;
  size_t static_smem = 0;
};
cudaError_t enqueue_launch(const Launch&, void (*invoke)(void*), void (*destroy)(void*), void* closure);

template <class... P, class... A>
cudaError_t launch(const char* name, void (*kernel)(P...), dim3 grid, dim3 block, size_t smem, cudaStream_t stream,
                   A&&... args) {
  static_assert(sizeof...(P) == sizeof...(A), "kernel argument count");
  static_assert((std::is_trivially_copyable_v<P> && ...), "kernel parameters must be trivially copyable");
  static_assert(((sizeof(P) + 0) + ... + 0) <= 4096, "kernel parameters exceed 4 KiB");
  struct C {
    void (*k)(P...);
    std::tuple<P...> a;
  };
  auto* c = new C{kernel, std::tuple<P...>(static_cast<P>(std::forward<A>(args))...)};
  Launch l{grid, block, smem, stream, reinterpret_cast<const void*>(kernel), name, c, sizeof(C)};
  return enqueue_launch(
      l,
      [](void* p) {
        auto* closure = static_cast<C*>(p);
        std::apply(closure->k, closure->a);
      },
      [](void* p) { delete static_cast<C*>(p); }, c);
}
template <class T>
uint64_t pack(T v) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  uint64_t r = 0;
  std::memcpy(&r, &v, sizeof(T));
  return r;
}
template <class T>
T unpack(uint64_t v) {
  T r;
  std::memcpy(&r, &v, sizeof(T));
  return r;
}
template <class T>
GPU_EMULATION_NOSAN __attribute__((noinline)) T raw_load(const volatile T* p) {
  return *const_cast<const T*>(p);
}
template <class T>
GPU_EMULATION_NOSAN __attribute__((noinline)) void raw_store(volatile T* p, T v) {
  *const_cast<T*>(p) = v;
}
template <class T, class F>
T rmw(T* p, F f, const char* file, int line) {
  atomic_access(p, sizeof(T), file, line);
  T old = raw_load(p);
  raw_store(p, static_cast<T>(f(old)));
  return old;
}
}  // namespace gpu_emulation

extern uint3 threadIdx, blockIdx;  // plain globals (macros would break cudaLaunchConfig_t::gridDim); threadIdx is
extern dim3 blockDim, gridDim;     // rewritten at every switch of fibers
constexpr int warpSize = 32;

// ---- barriers, fences, warp collectives -------------------------------------------------------------------
inline void __syncthreads(GPU_EMULATION_SITE) {
  ::gpu_emulation::barrier(::gpu_emulation::BarOp::sync, 0, GPU_EMULATION_HERE);
}
inline int __syncthreads_count(int p, GPU_EMULATION_SITE) {
  return ::gpu_emulation::barrier(::gpu_emulation::BarOp::count, p, GPU_EMULATION_HERE);
}
inline int __syncthreads_or(int p, GPU_EMULATION_SITE) {
  return ::gpu_emulation::barrier(::gpu_emulation::BarOp::any, p, GPU_EMULATION_HERE);
}
inline int __syncthreads_and(int p, GPU_EMULATION_SITE) {
  return ::gpu_emulation::barrier(::gpu_emulation::BarOp::all, p, GPU_EMULATION_HERE);
}
inline void __threadfence_block() {
  ::gpu_emulation::fence(0);
}
inline void __threadfence() {
  ::gpu_emulation::fence(1);
}
inline void __threadfence_system() {
  ::gpu_emulation::fence(2);
}
inline void __syncwarp(unsigned m = 0xffffffffu, GPU_EMULATION_SITE) {
  ::gpu_emulation::warp_op(::gpu_emulation::WarpOp::sync, m, 0, 0, 32, GPU_EMULATION_HERE);
}
template <class T>
T __shfl_sync(unsigned m, T v, int src, int w = 32, GPU_EMULATION_SITE) {
  return ::gpu_emulation::unpack<T>(::gpu_emulation::warp_op(::gpu_emulation::WarpOp::shfl_idx, m,
                                                             ::gpu_emulation::pack(v), src, w, GPU_EMULATION_HERE));
}
template <class T>
T __shfl_up_sync(unsigned m, T v, unsigned d, int w = 32, GPU_EMULATION_SITE) {
  return ::gpu_emulation::unpack<T>(::gpu_emulation::warp_op(::gpu_emulation::WarpOp::shfl_up, m,
                                                             ::gpu_emulation::pack(v), (int)d, w, GPU_EMULATION_HERE));
}
template <class T>
T __shfl_down_sync(unsigned m, T v, unsigned d, int w = 32, GPU_EMULATION_SITE) {
  return ::gpu_emulation::unpack<T>(::gpu_emulation::warp_op(::gpu_emulation::WarpOp::shfl_down, m,
                                                             ::gpu_emulation::pack(v), (int)d, w, GPU_EMULATION_HERE));
}
template <class T>
T __shfl_xor_sync(unsigned m, T v, int x, int w = 32, GPU_EMULATION_SITE) {
  return ::gpu_emulation::unpack<T>(::gpu_emulation::warp_op(::gpu_emulation::WarpOp::shfl_xor, m,
                                                             ::gpu_emulation::pack(v), x, w, GPU_EMULATION_HERE));
}
inline unsigned __ballot_sync(unsigned m, int p, GPU_EMULATION_SITE) {
  return (unsigned)::gpu_emulation::warp_op(::gpu_emulation::WarpOp::ballot, m, p != 0, 0, 32, GPU_EMULATION_HERE);
}
inline int __any_sync(unsigned m, int p, GPU_EMULATION_SITE) {
  return (int)::gpu_emulation::warp_op(::gpu_emulation::WarpOp::any, m, p != 0, 0, 32, GPU_EMULATION_HERE);
}
inline int __all_sync(unsigned m, int p, GPU_EMULATION_SITE) {
  return (int)::gpu_emulation::warp_op(::gpu_emulation::WarpOp::all, m, p != 0, 0, 32, GPU_EMULATION_HERE);
}
template <class T>
unsigned __match_any_sync(unsigned m, T v, GPU_EMULATION_SITE) {
  return (unsigned)::gpu_emulation::warp_op(::gpu_emulation::WarpOp::match_any, m, ::gpu_emulation::pack(v), 0, 32,
                                            GPU_EMULATION_HERE);
}
inline unsigned __reduce_add_sync(unsigned m, unsigned v, GPU_EMULATION_SITE) {
  return (unsigned)::gpu_emulation::warp_op(::gpu_emulation::WarpOp::red_add, m, v, 0, 32, GPU_EMULATION_HERE);
}
inline int __reduce_add_sync(unsigned m, int v, GPU_EMULATION_SITE) {
  return (int)::gpu_emulation::warp_op(::gpu_emulation::WarpOp::red_add, m, (unsigned)v, 0, 32, GPU_EMULATION_HERE);
}
inline unsigned __reduce_max_sync(unsigned m, unsigned v, GPU_EMULATION_SITE) {
  return (unsigned)::gpu_emulation::warp_op(::gpu_emulation::WarpOp::red_max_u, m, v, 0, 32, GPU_EMULATION_HERE);
}
inline int __reduce_max_sync(unsigned m, int v, GPU_EMULATION_SITE) {
  return (int)::gpu_emulation::warp_op(::gpu_emulation::WarpOp::red_max_s, m, (unsigned)v, 0, 32, GPU_EMULATION_HERE);
}
inline unsigned __reduce_or_sync(unsigned m, unsigned v, GPU_EMULATION_SITE) {
  return (unsigned)::gpu_emulation::warp_op(::gpu_emulation::WarpOp::red_or, m, v, 0, 32, GPU_EMULATION_HERE);
}

// ---- loads/stores with cache hints, bit and math intrinsics ------------------------------------------------
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, T v) {
  *p = v;
}
template <class T>
void __stcg(T* p, T v) {
  *p = v;
}
inline int __popc(unsigned x) {
  return __builtin_popcount(x);
}
inline int __popcll(unsigned long long x) {
  return __builtin_popcountll(x);
}
inline int __clz(int x) {
  return x ? __builtin_clz((unsigned)x) : 32;
}
inline int __ffs(int x) {
  return __builtin_ffs(x);
}
inline float __int_as_float(int x) {
  return ::gpu_emulation::unpack<float>(::gpu_emulation::pack(x));
}
inline int __float_as_int(float x) {
  return ::gpu_emulation::unpack<int>(::gpu_emulation::pack(x));
}
inline unsigned __float_as_uint(float x) {
  return ::gpu_emulation::unpack<unsigned>(::gpu_emulation::pack(x));
}
inline float __uint_as_float(unsigned x) {
  return ::gpu_emulation::unpack<float>(::gpu_emulation::pack(x));
}
inline float rsqrtf(float x) {
  return 1.0f / sqrtf(x);
}
inline float __expf(float x) {
  return expf(x);
}
inline float __logf(float x) {
  return logf(x);
}
inline float __fdividef(float a, float b) {
  return a / b;
}
inline float __frcp_rn(float a) {
  return 1.0f / a;
}
inline float __fmaf_rn(float a, float b, float c) {
  return fmaf(a, b, c);
}
template <class T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}
[[noreturn]] inline void __trap() {
  ::gpu_emulation::device_trap("__trap()", "", 0);
}

// ---- atomics (a block's threads share one OS thread: a plain read-modify-write is atomic) -----------------
template <class T>
T atomicAdd(T* p, std::type_identity_t<T> v, GPU_EMULATION_SITE) {
  return ::gpu_emulation::rmw(
      p, [=](T o) { return o + v; }, GPU_EMULATION_HERE);
}
template <class T>
T atomicSub(T* p, std::type_identity_t<T> v, GPU_EMULATION_SITE) {
  return ::gpu_emulation::rmw(
      p, [=](T o) { return o - v; }, GPU_EMULATION_HERE);
}
template <class T>
T atomicMax(T* p, std::type_identity_t<T> v, GPU_EMULATION_SITE) {
  return ::gpu_emulation::rmw(
      p, [=](T o) { return o < v ? v : o; }, GPU_EMULATION_HERE);
}
template <class T>
T atomicMin(T* p, std::type_identity_t<T> v, GPU_EMULATION_SITE) {
  return ::gpu_emulation::rmw(
      p, [=](T o) { return v < o ? v : o; }, GPU_EMULATION_HERE);
}
template <class T>
T atomicExch(T* p, std::type_identity_t<T> v, GPU_EMULATION_SITE) {
  return ::gpu_emulation::rmw(
      p, [=](T) { return v; }, GPU_EMULATION_HERE);
}
template <class T>
T atomicOr(T* p, std::type_identity_t<T> v, GPU_EMULATION_SITE) {
  return ::gpu_emulation::rmw(
      p, [=](T o) { return o | v; }, GPU_EMULATION_HERE);
}
template <class T>
T atomicAnd(T* p, std::type_identity_t<T> v, GPU_EMULATION_SITE) {
  return ::gpu_emulation::rmw(
      p, [=](T o) { return o & v; }, GPU_EMULATION_HERE);
}
template <class T>
T atomicCAS(T* p, std::type_identity_t<T> c, std::type_identity_t<T> v, GPU_EMULATION_SITE) {
  return ::gpu_emulation::rmw(
      p, [=](T o) { return o == c ? v : o; }, GPU_EMULATION_HERE);
}
