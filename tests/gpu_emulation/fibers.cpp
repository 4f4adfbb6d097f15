// Fibers, block scheduler, barriers, warp collectives, kernel launch.
#include <pthread.h>
#include <sys/mman.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "gpu_emulation/internal.h"
#if defined(__SANITIZE_ADDRESS__)
#define GPU_EMULATION_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GPU_EMULATION_ASAN 1
#endif
#endif
#if GPU_EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
extern "C" void gpu_emulation_switch(void** save_sp, void* load_sp);
#if defined(__x86_64__)
asm(".text\n.globl gpu_emulation_switch\n.type gpu_emulation_switch,@function\ngpu_emulation_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp,(%rdi)\n  movq %rsi,%rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n  ret\n"
    ".size gpu_emulation_switch,.-gpu_emulation_switch\n");
#else
#error "write gpu_emulation_switch for this processor"
#endif
extern char __start_gpu_emulation_shared[] __attribute__((weak)), __stop_gpu_emulation_shared[] __attribute__((weak));

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
namespace gpu_emulation {
Self* self;
Fiber* cur;
uint32_t block_linear, barrier_epoch, block_serial;
char* smem_base;
size_t smem_bytes;
size_t stack_bytes = 256 << 10;
uintptr_t params_lo, params_hi;
static Fiber fibers[1024];
static int nthreads, live, bar_wait, bar_result;
static bool aborted;
static std::vector<uint16_t> ready;
static void* main_sp;
static void* main_fake;
[[maybe_unused]] static const void* main_stack;
[[maybe_unused]] static size_t main_stack_n;
static void (*inv)(void*);
static void* inv_arg;
static uint64_t rng_state = 88172645463325252ull;
static unsigned warp_live[32];
static int warp_wait[32];
static enum { Fifo, Lifo, Random } policy = Random;
static uint64_t rng() {
  rng_state ^= rng_state << 13;
  rng_state ^= rng_state >> 7;
  return rng_state ^= rng_state << 17;
}
void set_seed(uint64_t s) {
  rng_state = s * 2685821657736338717ull + 1442695040888963407ull;
  if (!rng_state) rng_state = 1;
}
void set_policy(int p) {
  policy = p == 0 ? Fifo : p == 1 ? Lifo : Random;
}
uint64_t random_u64() {
  return rng();
}

static Fiber* pick() {
  if (ready.empty()) return nullptr;
  size_t i = policy == Random ? (uint32_t)rng() * (uint64_t)ready.size() >> 32 : policy == Lifo ? ready.size() - 1 : 0;
  uint16_t t = ready[i];
  if (policy == Fifo)
    ready.erase(ready.begin());
  else {
    ready[i] = ready.back();
    ready.pop_back();
  }
  return &fibers[t];
}
static void fiber_entry();
static void switch_to(Fiber* to, void** save, void** save_fake) {  // to==nullptr: back to the launcher
  void* load;
  if (to) {
    if (to->st == Fiber::Fresh) {
#if GPU_EMULATION_ASAN
      __asan_unpoison_memory_region(to->stack, stack_bytes);
#endif
      uintptr_t top = (uintptr_t)(to->stack + stack_bytes) & ~uintptr_t(63);
      auto* p = (void**)top;
      *--p = nullptr;
      *--p = (void*)&fiber_entry;
      for (int i = 0; i < 6; ++i) *--p = nullptr;
      to->sp = p;
      to->asan_fake = nullptr;
    }
    to->st = Fiber::Running;
    cur = to;
    self = to;
    threadIdx = to->tid;
    load = to->sp;
  } else {
    cur = nullptr;
    self = nullptr;
    load = main_sp;
  }
#if GPU_EMULATION_ASAN
  __sanitizer_start_switch_fiber(save_fake, to ? to->stack : main_stack, to ? stack_bytes : main_stack_n);
#else
  (void)save_fake;
#endif
  gpu_emulation_switch(save, load);
#if GPU_EMULATION_ASAN
  __sanitizer_finish_switch_fiber(*save_fake, nullptr, nullptr);
#endif
}
[[noreturn]] void abort_block() {
  aborted = true;
  static void* dead;
  static void* fake;
  switch_to(nullptr, &dead, &fake);
  __builtin_unreachable();
}

static const char* where(const Fiber& f, char* b) {
  static const char* names[] = {"syncwarp", "shfl",      "shfl_up", "shfl_down", "shfl_xor", "ballot", "any",
                                "all",      "match_any", "reduce",  "reduce",    "reduce",   "reduce", "reduce",
                                "reduce",   "reduce",    "reduce",  "mma",       "ldmatrix"};
  if (f.st == Fiber::InBarrier)
    snprintf(b, 160, "__syncthreads at %s:%d", f.file, f.line);
  else if (f.st == Fiber::InWarp)
    snprintf(b, 160, "%s(mask %08x) at %s:%d", names[(int)f.wop], f.wmask, f.file, f.line);
  else
    snprintf(b, 160, f.st == Fiber::Done ? "exited" : "running");
  return b;
}
static void deadlock() {
  char b[160];
  std::string s;
  int shown = 0;
  const char* last = nullptr;
  int lastl = -1;
  for (int i = 0; i < nthreads && shown < 6; ++i)
    if (fibers[i].st != Fiber::Done && (fibers[i].file != last || fibers[i].line != lastl)) {
      s += "\n    thread " + std::to_string(i) + ": " + where(fibers[i], b);
      last = fibers[i].file;
      lastl = fibers[i].line;
      ++shown;
    }
  report("deadlock", "block %u: no thread can run; %d of %d threads live, %d at a barrier:%s", block_linear, live,
         nthreads, bar_wait, s.c_str());
  abort_block();
}
static void yield_blocked() {
  Fiber* me = cur;
  Fiber* n = pick();
  if (!n) {
    deadlock();
  }
  if (n != me)
    switch_to(n, &me->sp, &me->asan_fake);
  else
    me->st = Fiber::Running;
}
static bool same_site(const Fiber& a, const Fiber& b) {
  return a.line == b.line && (a.file == b.file || !strcmp(a.file, b.file));
}

static void complete_barrier(Fiber* me) {  // me==nullptr: completed by an exiting thread
  if (live < nthreads) {
    report("barrier-after-exit", "block %u: __syncthreads at %s:%d reached by %d threads, %d have exited", block_linear,
           me ? me->file : "?", me ? me->line : 0, live, nthreads - live);
  }
  Fiber* first = nullptr;
  int cnt = 0, any = 0, all = 1;
  for (int i = 0; i < nthreads; ++i) {
    Fiber& f = fibers[i];
    if (f.st != Fiber::InBarrier) continue;
    if (!first)
      first = &f;
    else if (f.bop != first->bop || !same_site(f, *first)) {
      report("divergent-barrier", "block %u: thread %u waits at %s:%d, thread %u at %s:%d", block_linear, first->linear,
             first->file, first->line, f.linear, f.file, f.line);
      abort_block();
    }
    cnt += f.pred != 0;
    any |= f.pred != 0;
    all &= f.pred != 0;
  }
  bar_result = first->bop == BarOp::count ? cnt : first->bop == BarOp::any ? any : all;
  for (int i = 0; i < nthreads; ++i)
    if (fibers[i].st == Fiber::InBarrier && &fibers[i] != me) {
      fibers[i].st = Fiber::Ready;
      ready.push_back((uint16_t)i);
    }
  bar_wait = 0;
  ++barrier_epoch;
  if (me) me->st = Fiber::Running;
}
int barrier(BarOp op, int pred, const char* file, int line) {
  Fiber* me = cur;
  me->bop = op;
  me->pred = pred;
  me->file = file;
  me->line = line;
  me->st = Fiber::InBarrier;
  if (++bar_wait == live)
    complete_barrier(me);
  else
    yield_blocked();
  return bar_result;
}
static void warp_complete(int w, unsigned mask, WarpOp op, unsigned parts, Fiber* me) {
  Fiber* L = &fibers[w * 32];
  uint64_t acc = 0;
  bool first = true;
  Fiber* ref = nullptr;
  for (unsigned m = parts; m; m &= m - 1) {
    Fiber& f = L[__builtin_ctz(m)];
    if (!ref)
      ref = &f;
    else if (!same_site(f, *ref))
      report("divergent-warp-op", "block %u warp %d: lane %u at %s:%d, lane %u at %s:%d", block_linear, w, ref->lane,
             ref->file, ref->line, f.lane, f.file, f.line);
    uint32_t v = (uint32_t)f.wval, a = (uint32_t)acc;
    switch (op) {
      case WarpOp::ballot:
      case WarpOp::any:
      case WarpOp::all:
        acc |= (uint64_t)(f.wval & 1) << f.lane;
        break;
      case WarpOp::red_add:
        acc = (uint32_t)(a + v);
        break;
      case WarpOp::red_min_u:
        acc = first || v < a ? v : a;
        break;
      case WarpOp::red_max_u:
        acc = first || v > a ? v : a;
        break;
      case WarpOp::red_min_s:
        acc = first || (int)v < (int)a ? v : a;
        break;
      case WarpOp::red_max_s:
        acc = first || (int)v > (int)a ? v : a;
        break;
      case WarpOp::red_and:
        acc = first ? v : (a & v);
        break;
      case WarpOp::red_or:
        acc = a | v;
        break;
      case WarpOp::red_xor:
        acc = a ^ v;
        break;
      default:
        break;
    }
    first = false;
  }
  if (op == WarpOp::any)
    acc = acc != 0;
  else if (op == WarpOp::all)
    acc = acc == parts;
  if (ref->wfn) {
    void* lanes[32] = {};
    for (unsigned m = parts; m; m &= m - 1) {
      int l = __builtin_ctz(m);
      lanes[l] = L[l].wmine;
    }
    ref->wfn(lanes, parts);
  }
  for (unsigned m = parts; m; m &= m - 1) {
    Fiber& f = L[__builtin_ctz(m)];
    int l = (int)f.lane, src = l;
    f.wres = acc;
    int wd = f.wwidth, base = l & ~(wd - 1), rel = l & (wd - 1);
    switch (op) {
      case WarpOp::shfl_idx:
        src = base + (f.warg & (wd - 1));
        goto read;
      case WarpOp::shfl_up:
        src = rel - f.warg < 0 ? l : l - f.warg;
        goto read;
      case WarpOp::shfl_down:
        src = rel + f.warg >= wd ? l : l + f.warg;
        goto read;
      case WarpOp::shfl_xor:
        src = (l ^ f.warg) >= base + wd ? l : (l ^ f.warg);
        goto read;
      read:
        if (parts >> src & 1)
          f.wres = L[src].wval;
        else {
          f.wres = 0x7fbadbad7fbadbadull;
          report("shfl-inactive-lane",
                 "block %u warp %d lane %d reads lane %d, which takes no part (mask %08x) at %s:%d", block_linear, w, l,
                 src, mask, f.file, f.line);
        }
        break;
      case WarpOp::match_any: {
        unsigned r = 0;
        for (unsigned k = parts; k; k &= k - 1) {
          int j = __builtin_ctz(k);
          if (L[j].wval == f.wval) r |= 1u << j;
        }
        f.wres = r;
        break;
      }
      default:
        break;
    }
  }
  for (unsigned m = parts; m; m &= m - 1) {
    Fiber& f = L[__builtin_ctz(m)];
    if (op == WarpOp::sync && parts == warp_live[w]) ++f.wsync;
    if (&f != me) {
      f.st = Fiber::Ready;
      ready.push_back((uint16_t)f.linear);
    } else
      f.st = Fiber::Running;
  }
}
static bool try_complete(int w, unsigned mask, WarpOp op, Fiber* me) {
  unsigned want = mask & warp_live[w], have = 0;
  Fiber* L = &fibers[w * 32];
  if (warp_wait[w] < __builtin_popcount(want)) return false;
  for (unsigned m = want; m; m &= m - 1) {
    int l = __builtin_ctz(m);
    if (L[l].st == Fiber::InWarp && L[l].wop == op && L[l].wmask == mask) have |= 1u << l;
  }
  if (have != want) return false;
  warp_wait[w] -= __builtin_popcount(want);
  warp_complete(w, mask, op, have, me);
  return true;
}
static uint64_t warp_enter(WarpOp op, unsigned mask, uint64_t v, int arg, int width, void* mine,
                           void (*fn)(void**, unsigned), const char* file, int line) {
  Fiber* me = cur;
  me->file = file;
  me->line = line;
  if (!(mask >> me->lane & 1)) {
    report("warp-mask", "thread %u (lane %u) calls a warp operation at %s:%d with mask %08x that leaves it out",
           me->linear, me->lane, file, line, mask);
    abort_block();
  }
  me->wop = op;
  me->wmask = mask;
  me->wval = v;
  me->warg = arg;
  me->wwidth = width;
  me->wmine = mine;
  me->wfn = fn;
  me->st = Fiber::InWarp;
  ++warp_wait[me->warp];
  if (!try_complete((int)me->warp, mask, op, me)) yield_blocked();
  return me->wres;
}
uint64_t warp_op(WarpOp op, unsigned mask, uint64_t v, int arg, int width, const char* file, int line) {
  return warp_enter(op, mask, v, arg, width, nullptr, nullptr, file, line);
}
void warp_collective(WarpOp op, unsigned mask, void* mine, void (*fn)(void**, unsigned), const char* file, int line) {
  warp_enter(op, mask, 0, 0, 32, mine, fn, file, line);
}

__attribute__((no_sanitize("address"))) static void fiber_entry() {
#if GPU_EMULATION_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  inv(inv_arg);
  Fiber* me = cur;
  me->st = Fiber::Done;
  --live;
  warp_live[me->warp] &= ~(1u << me->lane);
  if (!me->cp_open.empty() || !me->cp_groups.empty())
    report("cp-async-unwaited", "thread %u exits with unfinished cp.async", me->linear);
  if (live && bar_wait == live) complete_barrier(nullptr);
  for (int l = 0; l < 32 && warp_live[me->warp]; ++l) {  // an exit can complete a warp operation
    Fiber& f = fibers[me->warp * 32 + l];
    if ((warp_live[me->warp] >> l & 1) && f.st == Fiber::InWarp) {
      try_complete((int)me->warp, f.wmask, f.wop, nullptr);
      break;
    }
  }
  Fiber* n = pick();
  if (!n && live) deadlock();
  static void* dead;
  switch_to(n, &dead, nullptr);
  __builtin_unreachable();
}
void check_alignment(const void* p, size_t n, const char* f, int l) {
  if ((uintptr_t)p % n) report("misaligned", "access of %zu bytes at %p at %s:%d", n, p, f, l);
}
void fence(int scope) {
  if (checker_on) checker_fence(scope);
}
void* dynamic_shared() {
  return smem_base;
}
void atomic_access(const volatile void* p, size_t n, const char* file, int line) {
  if ((uintptr_t)p % n) report("misaligned", "atomic on %p (%zu bytes) at %s:%d", (const void*)p, n, file, line);
  if (checker_on) checker_atomic(p, n, file, line);
}
void device_trap(const char* what, const char* file, int line) {
  report("trap", "%s %s:%d (block %u thread %u)", what, file, line, block_linear, cur->linear);
  abort_block();
}
// cp.async is performed as late as the PTX model allows: at the wait, not at the issue.
void cp_async(void* d, const void* s, int n, int src, const char* f, int l) {
  if (((uintptr_t)d | (uintptr_t)s) % (unsigned)n) report("misaligned", "cp.async of %d bytes at %s:%d", n, f, l);
  if (checker_on) {
    check_access(s, (size_t)src, false, f, l);
    check_access(d, (size_t)n, true, f, l);
    checker_pending(d, (size_t)n, true);
  }
  memset(d, 0xff, (size_t)n);
  cur->cp_open.push_back({d, s, n, src, f, l});
}
void cp_async_commit() {
  cur->cp_groups.push_back(std::move(cur->cp_open));
  cur->cp_open.clear();
}
void cp_async_wait(int keep) {
  while ((int)cur->cp_groups.size() > keep) {
    for (auto& c : cur->cp_groups.front()) {
      memcpy(c.d, c.s, (size_t)c.src);
      memset((char*)c.d + c.src, 0, (size_t)(c.n - c.src));
      if (checker_on) checker_pending(c.d, (size_t)c.n, false);
    }
    cur->cp_groups.pop_front();
  }
}

struct LaunchStats {
  uint64_t threads, blocks, launches;
} stats;
static void ensure_stacks(int n) {
  for (int i = 0; i < n; ++i)
    if (!fibers[i].stack) {
      char* p = (char*)mmap(nullptr, stack_bytes + 8192, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      mprotect(p, 4096, PROT_NONE);
      // Stagger the tops: stacks at equal page offsets would share cache sets.
      fibers[i].stack = p + 4096 + (i % 32) * 128;
    }
}
bool run_grid(const Launch& L, void (*invoke)(void*), void* closure) {
  nthreads = (int)(L.block.x * L.block.y * L.block.z);
  ensure_stacks(nthreads);
  inv = invoke;
  inv_arg = closure;
  blockDim = L.block;
  gridDim = L.grid;
  smem_bytes = L.static_smem + L.smem;
  params_lo = (uintptr_t)L.params;
  params_hi = params_lo + L.params_bytes;
#if GPU_EMULATION_ASAN
  {
    pthread_attr_t at;
    void* a;
    size_t n;
    pthread_getattr_np(pthread_self(), &at);
    pthread_attr_getstack(&at, &a, &n);
    pthread_attr_destroy(&at);
    main_stack = a;
    main_stack_n = n;
  }
#endif
  if (!smem_base) smem_base = (char*)mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
#if GPU_EMULATION_ASAN
  __asan_unpoison_memory_region(smem_base, smem_bytes);
  __asan_poison_memory_region(smem_base + smem_bytes, (1 << 20) - smem_bytes);
#endif
  uint64_t nb = (uint64_t)L.grid.x * L.grid.y * L.grid.z;
  ++stats.launches;
  stats.blocks += nb;
  stats.threads += nb * (uint64_t)nthreads;
  std::vector<uint32_t> order(nb);
  for (uint64_t i = 0; i < nb; ++i) order[i] = (uint32_t)i;
  if (policy == Random)
    for (uint64_t i = nb; i > 1; --i) std::swap(order[i - 1], order[rng() % i]);
  if (policy == Lifo)
    for (uint64_t i = 0; i < nb / 2; ++i) std::swap(order[i], order[nb - 1 - i]);
  for (uint32_t b : order) {
    block_linear = b;
    blockIdx = uint3{b % L.grid.x, b / L.grid.x % L.grid.y, b / L.grid.x / L.grid.y};
    live = nthreads;
    bar_wait = 0;
    barrier_epoch = 0;
    ++block_serial;
    aborted = false;
    ready.clear();
    memset(warp_live, 0, sizeof warp_live);
    memset(warp_wait, 0, sizeof warp_wait);
    if (smem_bytes) memset(smem_base, 0xff, smem_bytes);
    if (__start_gpu_emulation_shared)
      memset(__start_gpu_emulation_shared, 0xff, (size_t)(__stop_gpu_emulation_shared - __start_gpu_emulation_shared));
    if (checker_on) checker_block_begin();
    for (int i = 0; i < nthreads; ++i) {
      Fiber& f = fibers[i];
      f.linear = (unsigned)i;
      f.lane = (unsigned)i & 31;
      f.warp = (unsigned)i >> 5;
      f.st = Fiber::Fresh;
      f.wsync = 0;
      f.tid = uint3{(unsigned)i % L.block.x, (unsigned)i / L.block.x % L.block.y, (unsigned)i / L.block.x / L.block.y};
      f.cp_open.clear();
      f.cp_groups.clear();
      f.file = "";
      f.line = 0;
      warp_live[f.warp] |= 1u << f.lane;
      ready.push_back((uint16_t)i);
    }
    switch_to(pick(), &main_sp, &main_fake);
    if (aborted) return false;
  }
  return true;
}
}  // namespace gpu_emulation
