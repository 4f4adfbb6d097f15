#pragma once
// What the kernel language (kernel_language.h, ptx.h) calls in the emulation. Every function that may wait or report
// takes the place in the source, so that reports name it.
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

namespace gpu_emulation {

/// A place in the source. As a default argument it is the place of the call.
struct Site {
  const char* file;
  int line;
  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};

// ---- threads of a block
enum class BarrierKind : uint8_t { sync, count, any, all };
/// Waits for all threads of the block; what __syncthreads, _count, _or and _and give back.
int block_barrier(BarrierKind kind, int predicate, Site site);

enum class WarpKind : uint8_t {
  sync,
  shuffle,
  shuffle_up,
  shuffle_down,
  shuffle_xor,
  ballot,
  any,
  all,
  match_any,
  add,
  min_signed,
  max_signed,
  min_unsigned,
  max_unsigned,
  bit_and,
  bit_or,
  bit_xor,
  mma,
  ldmatrix,
};
/// Waits for the lanes of `mask`, and gives this lane's result for its `value`. `argument`: lane, distance or lane mask
/// of a shuffle among groups of `width` lanes.
uint64_t warp_operation(WarpKind kind, unsigned mask, uint64_t value, int argument, int width, Site site);

enum class FenceScope : uint8_t { block, device, system };
void fence(FenceScope scope);
[[noreturn]] void trap(const char* what, Site site);

// ---- memory
/// The block's dynamic shared memory.
void* dynamic_shared();
/// Before a read-modify-write of `bytes` at `address`.
void atomic_access(const volatile void* address, size_t bytes, Site site);
/// Reports an address that is no multiple of `bytes`.
void check_alignment(const void* address, size_t bytes, Site site = Site::here());
/// cp.async: the copy happens when a wait says that it must have happened, and until then the target is undefined.
void async_copy(void* shared, const void* global, int bytes, int valid_bytes, Site site);
void async_copy_commit();
void async_copy_wait(int pending_groups);

// ---- tensor cores
void warp_mma_m16n8k16_bf16(float* d, const unsigned* a, const unsigned* b, const float* c, Site site);
enum class Transposed : uint8_t { no, yes };
void warp_ldmatrix_x4(unsigned* r, const void* row, Transposed transposed, Site site);

// ---- launches
struct LaunchShape {
  dim3 grid, block;
  size_t shared_bytes = 0;
};
/// The parameters of a kernel and the way to call it with them; copied when a graph keeps it.
struct KernelCall {
  const char* name = "";
  const void* function = nullptr;
  void (*invoke)(const void* parameters) = nullptr;
  size_t parameter_bytes = 0;
  alignas(16) unsigned char parameters[4096] = {};
};
cudaError_t enqueue_launch(const LaunchShape& shape, const KernelCall& call, cudaStream_t stream);

/// Enqueues kernel(arguments...), as kernels/cuda/gpu.cuh's launch does on a GPU.
template <typename... P, typename... A>
cudaError_t launch(const char* name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, A&&... arguments) {
  static_assert(sizeof...(P) == sizeof...(A), "the kernel takes another number of arguments");
  static_assert((std::is_trivially_copyable_v<P> && ...), "parameters of kernels are copied as bytes");
  struct Closure {
    void (*kernel)(P...);
    std::tuple<P...> parameters;
  };
  static_assert(sizeof(Closure) <= sizeof KernelCall::parameters, "parameters of a kernel are 4 KiB at most");
  KernelCall call;
  call.name = name;
  call.function = reinterpret_cast<const void*>(kernel);
  call.parameter_bytes = sizeof(Closure);
  new (call.parameters) Closure{kernel, std::tuple<P...>(static_cast<P>(std::forward<A>(arguments))...)};
  call.invoke = [](const void* parameters) {
    const auto& closure = *static_cast<const Closure*>(parameters);
    std::apply(closure.kernel, closure.parameters);
  };
  return enqueue_launch({grid, block, shared_bytes}, call, stream);
}

}  // namespace gpu_emulation
