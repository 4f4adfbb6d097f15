// Memory checker for kernels.  Kernel sources are compiled with -fsanitize=thread, but instead of the TSan runtime
// these hooks are linked: every load and store of a CUDA thread is checked for bounds, alignment, uninitialised
// reads, pending cp.async data and races (within a warp, a block, a grid, and across streams).
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <unordered_map>

#include "gpu_emulation/internal.h"
extern char __start_gpu_emulation_shared[] __attribute__((weak)), __stop_gpu_emulation_shared[] __attribute__((weak));
extern "C" char __executable_start, end;
namespace gpu_emulation {
struct Acc {
  uint32_t op, block, serial, epoch;
  uint16_t thread;
  uint16_t wsync;
  uint8_t many, mask, atomic, pad;
};  // 24 bytes
struct Cell {
  Acc w, r;
  uint8_t init, pending;
};
bool checker_on;
static std::unordered_map<uintptr_t, Cell*> pages;  // 4 KiB of memory -> 2048 cells of two bytes
static uintptr_t last_page = 1;
static Cell* last_cells;
static Cell* cells(uintptr_t a) {
  uintptr_t pg = a >> 12;
  if (pg != last_page) {
    auto& c = pages[pg];
    if (!c) c = (Cell*)calloc(2048, sizeof(Cell));
    last_page = pg;
    last_cells = c;
  }
  return last_cells + ((a & 4095) >> 1);
}
enum class Space { local, shared, global, pinned, image, bad };
static uintptr_t lo_cache = 1, hi_cache = 0;
static Space classify(uintptr_t p, size_t n) {
  if (cur && p >= (uintptr_t)cur->stack && p < (uintptr_t)cur->stack + stack_bytes) return Space::local;
  if (p >= lo_cache && p + n <= hi_cache) return Space::global;
  if (p >= params_lo && p + n <= params_hi) return Space::local;  // kernel parameters
  if (smem_base && p >= (uintptr_t)smem_base && p < (uintptr_t)smem_base + (1 << 20))
    return p + n <= (uintptr_t)smem_base + smem_bytes ? Space::shared : Space::bad;
  if (const Alloc* a = find_alloc(p)) {
    if (a->freed || p + n > a->base + a->size) return Space::bad;
    if (a->pinned) return Space::pinned;
    lo_cache = a->base;
    hi_cache = a->base + a->size;
    return Space::global;
  }
  if (is_device_range(p)) return Space::bad;
  if (__start_gpu_emulation_shared && p >= (uintptr_t)__start_gpu_emulation_shared &&
      p < (uintptr_t)__stop_gpu_emulation_shared)
    return Space::shared;
  if (p >= (uintptr_t)&__executable_start && p < (uintptr_t)&end)
    return Space::image;  // gcc: static __shared__ lives here too
  return Space::bad;
}
// inter-block ordering through __threadfence + atomics on the same address ("last block done" patterns)
static uint64_t tick;
static std::unordered_map<uintptr_t, std::unordered_map<uint32_t, uint64_t>> released;
static std::unordered_map<uint64_t, uint64_t> acquired;
static std::unordered_map<uint32_t, uint64_t> fence_tick;
static uint32_t fence_op;
void checker_fence(int scope) {
  if (scope >= 1) fence_tick[block_linear] = ++tick;
}
void checker_block_begin() {
  lo_cache = 1;
  hi_cache = 0;
  if (fence_op != cur_op) {
    released.clear();
    acquired.clear();
    fence_tick.clear();
    fence_op = cur_op;
  }
}
void checker_alloc(uintptr_t p, size_t n, bool init) {
  lo_cache = 1;
  hi_cache = 0;
  for (uintptr_t a = p; a < p + n; a += 2) {
    Cell* c = cells(a);
    *c = Cell{};
    c->init = init ? 3 : 0;
  }
}
void checker_pending(const void* p, size_t n, bool v) {
  for (uintptr_t a = (uintptr_t)p; a < (uintptr_t)p + n; a += 2) cells(a)->pending = v;
}
static const char* space_name(Space s) {
  return s == Space::shared ? "shared" : s == Space::image ? "shared/static" : "global";
}
static bool conflict(const Acc& a, const Acc& me, bool shared, const char*& how) {  // a: earlier access, me: now
  if (!a.op || !(a.mask & me.mask) || (a.atomic && me.atomic)) return false;
  if (a.op != me.op) {
    if (shared) return false;
    how = "streams (no event or synchronisation between the two operations)";
    return !ordered(a.op, me.op);
  }
  if (!cur) return false;
  if (a.many == 3 || a.block != me.block) {
    if (shared) return false;
    auto it = acquired.find((uint64_t)me.block << 32 | a.block);
    if (a.many != 3 && it != acquired.end() && it->second >= a.epoch) {
      return false;
    }
    how = "blocks";
    return true;
  }
  if (a.serial != me.serial) return false;
  if (a.epoch != me.epoch) return false;  // a __syncthreads lies between
  if (a.many == 2 || a.thread >> 5 != me.thread >> 5) {
    how = "warps (no __syncthreads between)";
    return true;
  }
  if (a.wsync != me.wsync) return false;
  if (a.many == 1 || a.thread != me.thread) {
    how = "lanes (no __syncwarp between)";
    return true;
  }
  return false;
}
// one report per (kind, place): the first is the useful one
static bool fresh(const char* kind, void* pc, const char* f, int l) {
  static std::map<std::tuple<const void*, const void*, int>, int> seen;
  static uint32_t op;
  if (op != cur_op) {
    op = cur_op;
    seen.clear();
  }
  return seen[{kind, pc ? pc : (const void*)f, l}]++ == 0;
}
#define REPORT(kind, ...)                                 \
  do {                                                    \
    if (fresh(kind, pc, f, l)) report(kind, __VA_ARGS__); \
  } while (0)
static std::string site(void* pc, const char* f, int l) {
  char b[300];
  if (f)
    snprintf(b, sizeof b, "%s:%d", f, l);
  else {
    snprintf(b, sizeof b, "addr2line -s -e /proc/%d/exe %p", (int)getpid(), (void*)((char*)pc - 1));
    std::string r;
    if (FILE* p = popen(b, "r")) {
      char q[200];
      while (fgets(q, sizeof q, p)) r += q;
      pclose(p);
      while (!r.empty() && r.back() == '\n') r.pop_back();
    }
    return r;
  }
  return b;
}
static void touch(uintptr_t p, size_t n, bool write, bool atomic, void* pc, const char* f, int l) {
  Space sp = cur ? classify(p, n) : Space::global;
  if (sp == Space::local) return;
  const char* verb = atomic ? "atomic" : write ? "write" : "read";
  unsigned th = cur ? cur->linear : 0;
  if (sp == Space::bad) {
    REPORT("out-of-bounds", "%s of %zu bytes at %p by block %u thread %u at %s", verb, n, (void*)p, block_linear, th,
           site(pc, f, l).c_str());
    if (p < 4096 || is_device_range(p)) abort_block();
    return;
  }
  if (sp == Space::pinned) return;
  if (sp == Space::image && !write) {
    Cell* c = cells(p);
    if (!c->w.op) return;
  }  // constant data
  bool shared = sp == Space::shared || sp == Space::image;
  Acc me{};
  me.op = cur_op;
  me.block = block_linear;
  me.serial = block_serial;
  me.epoch = shared || cur ? barrier_epoch : 0;
  me.thread = (uint16_t)th;
  me.wsync = cur ? (uint16_t)cur->wsync : 0;
  me.atomic = atomic;
  bool said = false;
  const char* how = "";
  for (uintptr_t a = p & ~uintptr_t(1); a < p + n; a += 2) {
    Cell* c = cells(a);
    me.mask = (uint8_t)((a >= p ? 1 : 0) | (a + 1 < p + n ? 2 : 0));
    if (a + 1 < p) me.mask = 0;
    if (shared && c->w.op && (c->w.serial != me.serial || c->w.op != me.op)) {
      c->init = 0;
      c->w = Acc{};
      c->r = Acc{};
    }
    if (c->pending && !said) {
      said = true;
      REPORT("cp-async-pending", "%s of %s memory that an unfinished cp.async fills, thread %u at %s", verb,
             space_name(sp), th, site(pc, f, l).c_str());
    }
    if ((!write || atomic) && (c->init & me.mask) != me.mask && !said) {
      said = true;
      REPORT("uninitialised", "%s of uninitialised %s memory %p by block %u thread %u at %s", verb, space_name(sp),
             (void*)a, block_linear, th, site(pc, f, l).c_str());
    }
    if (!said && conflict(c->w, me, shared, how)) {
      said = true;
      REPORT("race", "%s %p (%s): block %u thread %u at %s after a write by block %u thread %u, unordered between %s",
             verb, (void*)a, space_name(sp), block_linear, th, site(pc, f, l).c_str(), c->w.block, c->w.thread, how);
    }
    if (write && !said && conflict(c->r, me, shared, how)) {
      said = true;
      REPORT("race", "%s %p (%s): block %u thread %u at %s after a read by block %u thread %u%s, unordered between %s",
             verb, (void*)a, space_name(sp), block_linear, th, site(pc, f, l).c_str(), c->r.block, c->r.thread,
             c->r.many ? " and others" : "", how);
    }
    if (write) {
      uint8_t m = c->w.op == me.op && c->w.block == me.block && c->w.thread == me.thread && c->w.serial == me.serial &&
                          c->w.epoch == me.epoch && c->w.wsync == me.wsync
                      ? c->w.mask
                      : 0;
      c->w = me;
      c->w.mask |= m;
      c->init |= me.mask;
    } else {
      Acc& r = c->r;
      bool same_round = r.op == me.op && r.serial == me.serial && r.epoch == me.epoch;
      if (r.op == me.op && !shared && r.block != me.block) {
        r.many = 3;
        r.mask |= me.mask;
      } else if (r.op == me.op && r.many == 3)
        r.mask |= me.mask;
      else if (!same_round)
        r = me;
      else if (r.thread != me.thread) {
        uint8_t lv = r.thread >> 5 != me.thread >> 5 ? 2 : 1;
        if (lv == 1 && r.wsync != me.wsync && r.many < 2) {
          r = me;
        } else {
          r.many = r.many > lv ? r.many : lv;
          r.mask |= me.mask;
        }
      } else {
        r.mask |= me.mask;
        if (!r.many) r.wsync = me.wsync;
      }
    }
  }
}
void check_access(const void* p, size_t n, bool w, const char* f, int l) {
  if (checker_on) touch((uintptr_t)p, n, w, false, nullptr, f, l);
}
void checker_range(const void* p, size_t n, bool w, const char* what) {
  Fiber* c = cur;
  cur = nullptr;
  touch((uintptr_t)p, n, w, false, nullptr, what, 0);
  cur = c;
}
void checker_atomic(const volatile void* vp, size_t n, const char* f, int l) {
  uintptr_t p = (uintptr_t)vp;
  touch(p, n, true, true, nullptr, f, l);
  auto ft = fence_tick.find(block_linear);
  auto& rel = released[p];
  for (auto& [b, t] : rel)
    if (b != block_linear) {
      auto& a = acquired[(uint64_t)block_linear << 32 | b];
      (void)t;
      a = ~0ull;
    }
  if (ft != fence_tick.end()) rel[block_linear] = ft->second;
}
struct On {
  On() { checker_on = getenv("GPU_EMULATION_NOCHECK") == nullptr; }
};
static On on;
static inline void hook(void* p, size_t n, bool w, void* pc, bool aligned) {
  if (!cur || !checker_on) return;
  if (aligned && (uintptr_t)p % n)
    report("misaligned", "%s of %zu bytes at %p, thread %u at %s", w ? "write" : "read", n, p, cur->linear,
           site(pc, nullptr, 0).c_str());
  touch((uintptr_t)p, n, w, false, pc, nullptr, 0);
}
}  // namespace gpu_emulation
using gpu_emulation::hook;
#define PC __builtin_return_address(0)
extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
#define H(n)                               \
  void __tsan_read##n(void* p) {           \
    hook(p, n, false, PC, true);           \
  }                                        \
  void __tsan_write##n(void* p) {          \
    hook(p, n, true, PC, true);            \
  }                                        \
  void __tsan_volatile_read##n(void* p) {  \
    hook(p, n, false, PC, true);           \
  }                                        \
  void __tsan_volatile_write##n(void* p) { \
    hook(p, n, true, PC, true);            \
  }
H(1)
H(2)
H(4) H(8) H(16)
#define U(n)                                \
  void __tsan_unaligned_read##n(void* p) {  \
    hook(p, n, false, PC, false);           \
  }                                         \
  void __tsan_unaligned_write##n(void* p) { \
    hook(p, n, true, PC, false);            \
  }
    U(2) U(4) U(8) U(16) void __tsan_read_range(void* p, unsigned long n) {
  hook(p, n, false, PC, false);
}
void __tsan_write_range(void* p, unsigned long n) {
  hook(p, n, true, PC, false);
}
void __tsan_read_write4(void* p) {
  hook(p, 4, false, PC, true);
  hook(p, 4, true, PC, true);
}
void __tsan_read_write8(void* p) {
  hook(p, 8, false, PC, true);
  hook(p, 8, true, PC, true);
}
void __tsan_read_write2(void* p) {
  hook(p, 2, false, PC, true);
  hook(p, 2, true, PC, true);
}
void __tsan_read_write1(void* p) {
  hook(p, 1, false, PC, true);
  hook(p, 1, true, PC, true);
}
void* __tsan_memcpy(void* d, const void* s, unsigned long n) {
  hook((void*)s, n, false, PC, false);
  hook(d, n, true, PC, false);
  return memcpy(d, s, n);
}
void* __tsan_memset(void* d, int v, unsigned long n) {
  hook(d, n, true, PC, false);
  return memset(d, v, n);
}
void* __tsan_memmove(void* d, const void* s, unsigned long n) {
  hook((void*)s, n, false, PC, false);
  hook(d, n, true, PC, false);
  return memmove(d, s, n);
}
// function-local statics: guards are touched through atomics
char __tsan_atomic8_load(const volatile char* p, int) {
  return *p;
}
int __tsan_atomic32_load(const volatile int* p, int) {
  return *p;
}
}
