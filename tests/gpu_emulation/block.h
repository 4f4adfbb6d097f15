#pragma once
// The block that runs: its threads as fibers, who waits for what, and its shared memory.
#include <cstdint>
#include <deque>
#include <vector>

#include "gpu_emulation/context_switch.h"
#include "gpu_emulation/device_hooks.h"

// The built-in variables of kernels (kernel_language.h declares them too).
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace gpu_emulation {

constexpr int most_threads = 1024;  // of a block, on every GPU there is
constexpr size_t most_shared_bytes = 227 << 10;

/// A copy that cp.async has begun.
struct AsyncCopy {
  void* shared;
  const void* global;
  int bytes, valid_bytes;
};

/// What a lane brings to a warp operation, and what it gets.
struct WarpCall {
  WarpKind kind;
  unsigned mask;
  uint64_t value, result;
  int argument, width;
  void* fragments;  ///< of mma and ldmatrix: the lane's registers
};

/// One CUDA thread.
struct Fiber {
  enum class State : uint8_t { fresh, ready, running, at_barrier, in_warp_operation, finished };
  Context context;
  State state = State::fresh;
  uint3 index{};  ///< threadIdx
  unsigned linear = 0, lane = 0, warp = 0;
  Site site{"", 0};  ///< of the barrier or warp operation that it is in
  BarrierKind barrier{};
  int predicate = 0;
  WarpCall call{};
  unsigned warp_epoch = 0;  ///< __syncwarp()s of its whole warp so far, for the checker
  std::vector<AsyncCopy> open_copies;
  std::deque<std::vector<AsyncCopy>> copy_groups;
};

/// The running thread; null while host code runs.
extern Fiber* running;

struct Block {
  uint32_t linear = 0;  ///< its number in the grid
  uint32_t serial = 0;  ///< counts all blocks ever
  uint32_t epoch = 0;   ///< __syncthreads()s so far
  int threads = 0;
  int live = 0;  ///< threads that have not finished
  int at_barrier = 0;
  int barrier_result = 0;
  bool aborted = false;
  unsigned live_lanes[most_threads / 32] = {};
  int waiting_lanes[most_threads / 32] = {};
  char* shared = nullptr;
  size_t shared_bytes = 0;
};
extern Block block;

Fiber& fiber(int linear);
/// Runs one block to its end. False when a fault has ended it early.
bool run_block(dim3 shape, void (*body)());
/// The running thread waits until somebody makes it ready; what it waits for is in its state.
void wait_in_block();
void make_ready(Fiber& waiting);
/// Ends the block: a fault has been reported.
[[noreturn]] void abort_block();
/// An exit of a lane can be what the others of its warp wait for (warp.cpp).
void complete_warp_operations(int warp);

}  // namespace gpu_emulation
