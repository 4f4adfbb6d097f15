#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "gpu_emulation/control.h"
#include "gpu_emulation/kernel_language.h"
namespace gpu_emulation {
// ---- reports ---------------------------------------------------------------------------------------------
void report(const char* kind, const char* fmt, ...) __attribute__((format(printf, 2, 3)));
// ---- devices, allocations, streams -----------------------------------------------------------------------
struct Alloc {
  uintptr_t base;
  size_t size;
  int device;
  bool freed;
  bool pinned;
  uint64_t serial;
};
const Alloc* find_alloc(uintptr_t p);  // device or pinned host allocation containing p
bool is_device_range(uintptr_t p);
using VC = std::vector<uint32_t>;
struct OpRec {
  uint32_t stream = 0, clock = 0;
  VC vc;
  const char* name = "";
};
extern std::deque<OpRec> op_recs;
extern uint32_t cur_op;                // the op now executing (index into op_recs)
bool ordered(uint32_t a, uint32_t b);  // does op a happen before op b (same stream, event or host sync)?
enum class OpState { done, not_ready };
void enqueue(cudaStream_t s, const char* name, std::function<OpState()> run);
void drain_stream(cudaStream_t s);
struct BigLock {
  void lock();
  void unlock();
  int release_all();
  void reacquire(int depth);
};  // re-entrant
BigLock& big_lock();
// ---- fibers ------------------------------------------------------------------------------------------------
struct Fiber : Self {
  void* sp;
  char* stack;
  enum St : uint8_t { Fresh, Ready, Running, InBarrier, InWarp, Done } st;
  BarOp bop;
  int pred;
  const char* file;
  int line;
  WarpOp wop;
  unsigned wmask;
  uint64_t wval, wres;
  int warg, wwidth;
  void* wmine;
  void (*wfn)(void**, unsigned);
  unsigned wsync;  // __syncwarp epoch of this lane's warp as seen by the lane
  struct Cp {
    void* d;
    const void* s;
    int n, src;
    const char* f;
    int l;
  };
  std::vector<Cp> cp_open;
  std::deque<std::vector<Cp>> cp_groups;
  void* asan_fake;
};
extern Fiber* cur;  // null while host code runs
extern uint32_t block_linear, barrier_epoch, block_serial;
extern char* smem_base;
extern size_t smem_bytes;
extern size_t stack_bytes;
extern uintptr_t params_lo, params_hi;
void warp_collective(WarpOp op, unsigned mask, void* mine, void (*fn)(void** lanes, unsigned mask), const char* file,
                     int line);
[[noreturn]] void abort_block();
// ---- checker (check.cpp) ------------------------------------------------------------------------------------
extern bool checker_on;
void checker_block_begin();
void checker_alloc(uintptr_t p, size_t n, bool initialised);
void checker_range(const void* p, size_t n, bool write, const char* what);
void checker_pending(const void* p, size_t n, bool pending);
void checker_atomic(const volatile void* p, size_t n, const char* file, int line);
void checker_fence(int scope);
}  // namespace gpu_emulation
