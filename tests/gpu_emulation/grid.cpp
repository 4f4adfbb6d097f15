#include "gpu_emulation/grid.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "gpu_emulation/block.h"
#include "gpu_emulation/checker.h"
#include "gpu_emulation/device_memory.h"
#include "gpu_emulation/random_order.h"
#include "gpu_emulation/reports.h"

#if GPU_EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#endif

// The linker's names for the ends of the section with static shared memory; null where it does not exist.
extern char __start_gpu_emulation_shared[] __attribute__((weak));
extern char __stop_gpu_emulation_shared[] __attribute__((weak));

namespace gpu_emulation {

namespace {
constexpr int undefined_byte = 0xff;  // a NaN in every floating-point type
const KernelCall* running_call = nullptr;

std::vector<uint32_t> order_of_blocks(uint32_t blocks) {
  std::vector<uint32_t> order(blocks);
  std::iota(order.begin(), order.end(), 0u);
  if (current_order() == Order::last_to_first) std::reverse(order.begin(), order.end());
  if (current_order() == Order::random)
    for (uint32_t i = blocks; i > 1; --i) std::swap(order[i - 1], order[random_below(i)]);
  return order;
}

/// Shared memory is undefined when a block begins.
void spoil_shared_memory() {
  if (block.shared_bytes > 0) std::memset(block.shared, undefined_byte, block.shared_bytes);
  if (__start_gpu_emulation_shared != nullptr)
    std::memset(__start_gpu_emulation_shared, undefined_byte,
                static_cast<size_t>(__stop_gpu_emulation_shared - __start_gpu_emulation_shared));
}

void set_shared_memory(size_t bytes) {
  if (block.shared == nullptr) {
    void* memory = mmap(nullptr, most_shared_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    block.shared = static_cast<char*>(memory);
  }
  block.shared_bytes = bytes;
#if GPU_EMULATION_ASAN
  __asan_unpoison_memory_region(block.shared, bytes);
  __asan_poison_memory_region(block.shared + bytes, most_shared_bytes - bytes);
#endif
}
}  // namespace

const KernelCall* current_call() {
  return running_call;
}

void* dynamic_shared() {
  return block.shared;
}

void atomic_access(const volatile void* address, size_t bytes, Site site) {
  check_alignment(const_cast<const void*>(address), bytes, site);
  if (checker_on) checker_atomic(address, bytes, site);
}

cudaError_t run_grid(const LaunchShape& shape, const KernelCall& call) {
  blockDim = shape.block;
  gridDim = shape.grid;
  set_shared_memory(shape.shared_bytes);
  running_call = &call;
  cudaError_t result = cudaSuccess;
  for (const uint32_t b : order_of_blocks(shape.grid.x * shape.grid.y * shape.grid.z)) {
    block.linear = b;
    blockIdx = {b % shape.grid.x, b / shape.grid.x % shape.grid.y, b / shape.grid.x / shape.grid.y};
    spoil_shared_memory();
    if (checker_on) checker_begin_block();
    if (!run_block(shape.block, [] { running_call->invoke(running_call->parameters); })) {
      result = take_fault().value_or(cudaErrorLaunchFailure);
      break;
    }
  }
  running_call = nullptr;
  return result;
}

}  // namespace gpu_emulation
