// The CUDA runtime API subset at its real C ABI, over deferred streams: an enqueued operation runs only when a
// host synchronisation asks for it, and ready operations of different streams run in random order.
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <thread>

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
#define POISON(p, n) __asan_poison_memory_region((void*)(p), n)
#define UNPOISON(p, n) __asan_unpoison_memory_region((void*)(p), n)
#else
#define POISON(p, n) ((void)0)
#define UNPOISON(p, n) ((void)0)
#endif

namespace gpu_emulation {
bool run_grid(const Launch& L, void (*invoke)(void*), void* closure);
uint64_t random_u64();
void set_seed(uint64_t);
void set_policy(int);
static std::vector<Report> reports;
static bool die_on_report;
void report(const char* kind, const char* fmt, ...) {
  char b[2048];
  va_list a;
  va_start(a, fmt);
  vsnprintf(b, sizeof b, fmt, a);
  va_end(a);
  for (auto& r : reports)
    if (r.kind == kind && reports.size() > 40) return;  // keep floods short
  const char* op = cur_op < op_recs.size() ? op_recs[cur_op].name : "host";
  reports.push_back({kind, std::string(b) + " [in " + op + "]"});
  if (die_on_report) {
    fprintf(stderr, "gpu_emulation: %s: %s\n", kind, reports.back().text.c_str());
    abort();
  }
}
std::vector<Report> take_reports() {
  auto r = std::move(reports);
  reports.clear();
  return r;
}
static std::mutex big;
static thread_local int big_depth;
void BigLock::lock() {
  if (big_depth++ == 0) big.lock();
}
void BigLock::unlock() {
  if (--big_depth == 0) big.unlock();
}
int BigLock::release_all() {
  int d = big_depth;
  big_depth = 0;
  if (d) big.unlock();
  return d;
}
void BigLock::reacquire(int d) {
  if (d) big.lock();
  big_depth = d;
}
BigLock& big_lock() {
  static BigLock b;
  return b;
}
#define LOCK std::lock_guard<BigLock> lock_(big_lock())

std::deque<OpRec> op_recs{OpRec{}};
uint32_t cur_op;
bool ordered(uint32_t a, uint32_t b) {
  if (a == b) return true;
  const OpRec& A = op_recs[a];
  const OpRec& B = op_recs[b];
  return A.clock == 0 || (B.vc.size() > A.stream && B.vc[A.stream] >= A.clock);
}
static void join(VC& a, const VC& b) {
  if (a.size() < b.size()) a.resize(b.size());
  for (size_t i = 0; i < b.size(); ++i) a[i] = std::max(a[i], b[i]);
}

constexpr int kDevices = 8;
static int ndev = getenv("GPU_EMULATION_DEVICES") ? atoi(getenv("GPU_EMULATION_DEVICES")) : 2;
constexpr size_t kArena = 8ull << 30;
static char* arena;
static size_t arena_top;
static bool protect_host = !getenv("GPU_EMULATION_NOPROTECT");
static int unprotected;
static std::map<uintptr_t, Alloc> allocs;
static thread_local int cur_dev;
static thread_local cudaError_t last_err;
static cudaError_t sticky[kDevices];
static thread_local VC host_vc;
static uint64_t alloc_serial;
static size_t live_bytes[kDevices], peak_bytes[kDevices];
static size_t dev_mem = 4ull << 30;
// Pages of an empty file fault (SIGBUS) whatever their protection: guards that opening the arena cannot open.
static void guard(char* p, size_t n) {
  static int fd = memfd_create("guard", 0);
  mmap(p, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd, 0);
}

struct Gate {
  Gate() {
    if (protect_host && arena && unprotected++ == 0) mprotect(arena, arena_top, PROT_READ | PROT_WRITE);
  }
  ~Gate() {
    if (protect_host && arena && --unprotected == 0) mprotect(arena, arena_top, PROT_NONE);
  }
};
static void segv(int, siginfo_t* si, void*) {
  char b[300];
  uintptr_t p = (uintptr_t)si->si_addr;
  const Alloc* a = find_alloc(p);
  int n = snprintf(b, sizeof b, "gpu_emulation: fault at %p: %s %s%s\n", si->si_addr, cur ? "kernel" : "host code",
                   cur ? op_recs[cur_op].name : "",
                   cur && p < (uintptr_t)cur->stack && p + 8192 > (uintptr_t)cur->stack
                       ? " overflows the stack of a CUDA thread"
                   : a                  ? (a->freed ? " touches freed device memory" : " dereferences device memory")
                   : is_device_range(p) ? " runs past device allocations"
                                        : "");
  if (write(2, b, (size_t)n)) {
  }
  signal(SIGSEGV, SIG_DFL);
  signal(SIGBUS, SIG_DFL);
  raise(SIGSEGV);
}
static void init() {
  if (arena) return;
  arena = (char*)mmap((void*)0x500000000000, kArena, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  POISON(arena, 1 << 20);
#if !GPU_EMULATION_ASAN
  static char alt[65536];
  stack_t ss{};
  ss.ss_sp = alt;
  ss.ss_size = sizeof alt;
  sigaltstack(&ss, nullptr);
  struct sigaction sa {};
  sa.sa_sigaction = segv;
  sa.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &sa, nullptr);
  sigaction(SIGBUS, &sa, nullptr);
#else
  (void)segv;
#endif
  set_seed(getenv("GPU_EMULATION_SEED") ? strtoull(getenv("GPU_EMULATION_SEED"), nullptr, 10) : 1);
  if (const char* e = getenv("GPU_EMULATION_ORDER")) set_policy(!strcmp(e, "fifo") ? 0 : !strcmp(e, "lifo") ? 1 : 2);
  die_on_report = getenv("GPU_EMULATION_DIE") != nullptr;
}
const Alloc* find_alloc(uintptr_t p) {
  auto it = allocs.upper_bound(p);
  if (it == allocs.begin()) return nullptr;
  --it;
  return p < it->second.base + it->second.size ? &it->second : nullptr;
}
bool is_device_range(uintptr_t p) {
  return arena && p >= (uintptr_t)arena && p < (uintptr_t)arena + kArena;
}
static void* dev_alloc(size_t n) {
  init();
  if (!n || live_bytes[cur_dev] + n > dev_mem) return nullptr;
  size_t slot = (n + 255) / 256 * 256, need = (slot + 4095) / 4096 * 4096 + 4096;  // data ends at a guard page
  if (arena_top + need > kArena) return nullptr;
  char* page = arena + arena_top;
  arena_top += need;
  char* p = page + (need - 4096 - slot);
  mprotect(page, need - 4096, PROT_READ | PROT_WRITE);
  guard(page + need - 4096, 4096);
  POISON(page, need);
  UNPOISON(p, n);
  memset(p, 0xff, n);
  allocs[(uintptr_t)p] = Alloc{(uintptr_t)p, n, cur_dev, false, false, ++alloc_serial};
  live_bytes[cur_dev] += n;
  peak_bytes[cur_dev] = std::max(peak_bytes[cur_dev], live_bytes[cur_dev]);
  if (checker_on) checker_alloc((uintptr_t)p, n, false);
  if (protect_host && !unprotected) mprotect(arena, arena_top, PROT_NONE);
  return p;
}
static bool dev_free(void* p) {
  auto it = allocs.find((uintptr_t)p);
  if (it == allocs.end() || it->second.freed) {
    report("bad-free", "free of %p: %s", p, it == allocs.end() ? "not an allocation" : "freed twice");
    return false;
  }
  it->second.freed = true;
  live_bytes[it->second.device] -= it->second.size;
  POISON(p, it->second.size);
  uintptr_t lo = (uintptr_t)p & ~4095ul, hi = ((uintptr_t)p + it->second.size + 4095) & ~4095ul;
  guard((char*)lo, hi - lo);
  return true;
}
size_t peak_device_bytes(int d) {
  return peak_bytes[d];
}
size_t live_device_bytes(int d) {
  return live_bytes[d];
}

struct EventState {
  bool recorded = false;
  uint64_t asked = 0, done = 0;
  VC vc;
  double t = 0;
};
struct Op {
  const char* name;
  std::function<OpState()> run;
  VC host;
};
}  // namespace gpu_emulation
using namespace gpu_emulation;
struct CUstream_st {
  int device;
  uint32_t id;
  std::deque<Op> q;
  VC vc;
  bool dead = false;
};
struct CUevent_st {
  EventState s;
};
namespace gpu_emulation {
static auto& streams =
    *new std::vector<CUstream_st*>;  // never destroyed: the leak checker runs after static destructors
static uint32_t next_stream_id = 1;
static bool eager = getenv("GPU_EMULATION_STREAMS") && !strcmp(getenv("GPU_EMULATION_STREAMS"), "eager");
static bool step(CUstream_st* s) {  // run the head of one stream
  Op& o = s->q.front();
  VC vc = s->vc;
  join(vc, o.host);
  if (vc.size() <= s->id) vc.resize(s->id + 1);
  ++vc[s->id];
  uint32_t saved = cur_op;
  op_recs.push_back(OpRec{s->id, vc[s->id], vc, o.name});
  cur_op = (uint32_t)op_recs.size() - 1;
  int dv = cur_dev;
  cur_dev = s->device;
  OpState r;
  {
    Gate g;
    r = o.run();
  }
  cur_dev = dv;
  uint32_t mine = cur_op;
  cur_op = saved;
  if (r == OpState::not_ready) {
    if (mine == op_recs.size() - 1) op_recs.pop_back();
    return false;
  }
  join(s->vc, op_recs[mine].vc);
  if (s->vc.size() <= s->id) s->vc.resize(s->id + 1);
  s->vc[s->id] = op_recs[mine].clock;
  s->q.pop_front();
  return true;
}
template <class Done>
static void drive(int device, Done done) {  // random ready op of this device until done()
  LOCK;
  auto t0 = std::chrono::steady_clock::now();
  while (!done()) {
    std::vector<CUstream_st*> c;
    for (auto* s : streams)
      if (s->device == device && !s->q.empty()) c.push_back(s);
    bool moved = false;
    while (!c.empty() && !moved) {
      size_t i = random_u64() % c.size();
      moved = step(c[i]);
      if (!moved) c.erase(c.begin() + (long)i);
    }
    if (moved) {
      t0 = std::chrono::steady_clock::now();
      continue;
    }
    if (done()) break;
    if (std::chrono::steady_clock::now() - t0 > std::chrono::seconds(5)) {
      std::string w;
      for (auto* s : streams)
        if (!s->q.empty())
          w += "\n    device " + std::to_string(s->device) + " stream " + std::to_string(s->id) + " stuck at " +
               s->q.front().name;
      report("stream-deadlock", "device %d: nothing can run:%s", device, w.c_str());
      for (auto* s : streams)
        if (s->device == device) s->q.clear();
      return;
    }
    int depth = big_lock().release_all();
    std::this_thread::sleep_for(std::chrono::microseconds(50));
    big_lock().reacquire(depth);  // another rank must move
  }
}
static CUstream_st* legacy(int d) {
  static CUstream_st* l[kDevices];
  if (!l[d]) {
    l[d] = new CUstream_st{d, next_stream_id++, {}, {}};
    streams.push_back(l[d]);
  }
  return l[d];
}
void drain_stream(cudaStream_t s) {
  drive(s->device, [s] { return s->q.empty(); });
  join(host_vc, s->vc);
}
static void drain_device(int d) {
  drive(d, [d] {
    for (auto* s : streams)
      if (s->device == d && !s->q.empty()) return false;
    return true;
  });
  for (auto* s : streams)
    if (s->device == d) join(host_vc, s->vc);
}
void enqueue(cudaStream_t s, const char* name, std::function<OpState()> run) {
  LOCK;
  init();
  if (s == nullptr || s == cudaStreamLegacy || s == cudaStreamPerThread) {  // legacy stream: serialises with everything
    report("legacy-stream", "%s enqueued on the legacy default stream", name);
    drain_device(cur_dev);
    s = legacy(cur_dev);
    s->q.push_back(Op{name, std::move(run), host_vc});
    drain_device(cur_dev);
    return;
  }
  if (s->dead) {
    report("dead-stream", "%s enqueued on a destroyed stream", name);
    return;
  }
  if (s->device != cur_dev)
    report("wrong-device", "%s: stream belongs to device %d, current device is %d", name, s->device, cur_dev);
  s->q.push_back(Op{name, std::move(run), host_vc});
  if (eager) drain_stream(s);
}
static std::map<const void*, int> max_dyn;
cudaError_t enqueue_launch(const Launch& L, void (*invoke)(void*), void (*destroy)(void*), void* c) {
  LOCK;
  auto bad = [&](const char* w) {
    report("launch-config", "%s: %s (grid %u,%u,%u block %u,%u,%u smem %zu)", L.name, w, L.grid.x, L.grid.y, L.grid.z,
           L.block.x, L.block.y, L.block.z, L.smem);
    destroy(c);
    return last_err = cudaErrorInvalidConfiguration;
  };
  uint64_t t = (uint64_t)L.block.x * L.block.y * L.block.z;
  if (!t || t > 1024 || L.block.z > 64) return bad("bad block");
  if (!L.grid.x || !L.grid.y || !L.grid.z || L.grid.x > 0x7fffffffu || L.grid.y > 65535 || L.grid.z > 65535)
    return bad("bad grid");
  auto it = max_dyn.find(L.func);
  if (L.smem > (size_t)(it == max_dyn.end() ? 48 << 10 : it->second))
    return bad("dynamic shared memory above the function's limit");
  std::shared_ptr<void> hold(c, destroy);
  Launch l = L;
  enqueue(L.stream, L.name, [=] {
    if (!run_grid(l, invoke, hold.get())) sticky[cur_dev] = cudaErrorLaunchFailure;
    return OpState::done;
  });
  return cudaSuccess;
}
static bool pinned(const void* p) {
  const Alloc* a = find_alloc((uintptr_t)p);
  return a && a->pinned;
}
static bool device_ptr(const void* p) {
  const Alloc* a = find_alloc((uintptr_t)p);
  return a && !a->pinned;
}
static void chk(const void* p, size_t n, bool w, const char* what) {
  const Alloc* a = find_alloc((uintptr_t)p);
  if (a ? (a->freed || (uintptr_t)p + n > a->base + a->size) : is_device_range((uintptr_t)p)) {
    report("out-of-bounds", "%s of %zu bytes at %p: %s", what, n, p, a && a->freed ? "freed" : "past its allocation");
    return;
  }
  if (a && checker_on) checker_range(p, n, w, what);
}
static cudaError_t ret(cudaError_t e) {
  if (e != cudaSuccess) last_err = e;
  return e;
}
void set_order(Order order, uint64_t seed) {
  init();
  set_policy(static_cast<int>(order));
  set_seed(seed);
}
}  // namespace gpu_emulation

extern "C" {
cudaError_t cudaGetDeviceCount(int* n) {
  *n = ndev;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int d) {
  if (d < 0 || d >= ndev) return ret(cudaErrorInvalidDevice);
  cur_dev = d;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* d) {
  *d = cur_dev;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* v, cudaDeviceAttr a, int) {
  switch (a) {
    case cudaDevAttrMultiProcessorCount:
      *v = 4;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *v = 9;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *v = 0;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *v = 227 << 10;
      break;
    default:
      return ret(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** p, size_t n) {
  LOCK;
  *p = dev_alloc(n);
  return ret(*p || !n ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void* p) {
  LOCK;
  if (!p) return cudaSuccess;
  drain_device(cur_dev);
  return ret(dev_free(p) ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t cudaMallocAsync(void** p, size_t n, cudaStream_t s) {
  LOCK;
  (void)s;
  *p = dev_alloc(n);
  return ret(*p || !n ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaFreeAsync(void* p, cudaStream_t s) {
  if (!p) return cudaSuccess;
  enqueue(s, "cudaFreeAsync", [=] {
    if (checker_on) {
      const Alloc* a = find_alloc((uintptr_t)p);
      if (a && !a->freed) checker_range(p, a->size, true, "cudaFreeAsync");
    }
    dev_free(p);
    return OpState::done;
  });
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** p, size_t n) {
  LOCK;
  init();
  *p = malloc(n);
  memset(*p, 0xff, n);
  allocs[(uintptr_t)*p] = Alloc{(uintptr_t)*p, n, cur_dev, false, true, ++alloc_serial};
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* p) {
  LOCK;
  drain_device(cur_dev);
  allocs.erase((uintptr_t)p);
  free(p);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* f, size_t* t) {
  LOCK;
  *t = dev_mem;
  *f = dev_mem - live_bytes[cur_dev];
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* d, const void* s, size_t n, cudaMemcpyKind k, cudaStream_t st) {
  LOCK;
  bool dd = device_ptr(d), sd = device_ptr(s);
  if ((k == cudaMemcpyHostToDevice && (!dd || sd)) || (k == cudaMemcpyDeviceToHost && (dd || !sd)) ||
      (k == cudaMemcpyDeviceToDevice && (!dd || !sd))) {
    report("memcpy-kind", "cudaMemcpyAsync kind %d with %s -> %s", (int)k, sd ? "device" : "host",
           dd ? "device" : "host");
    return ret(cudaErrorInvalidValue);
  }
  if (!n) return cudaSuccess;
  std::shared_ptr<std::vector<char>> staged;  // pageable source: read now, as the driver does
  if (!sd && !pinned(s)) staged = std::make_shared<std::vector<char>>((const char*)s, (const char*)s + n);
  enqueue(st, "cudaMemcpyAsync", [=] {
    chk(s, n, false, "copy source");
    chk(d, n, true, "copy target");
    memmove(d, staged ? staged->data() : s, n);
    return OpState::done;
  });
  if (!dd && !pinned(d)) drain_stream(st ? st : legacy(cur_dev));  // pageable target: synchronous, as the driver does
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* d, const void* s, size_t n, cudaMemcpyKind k) {
  LOCK;
  drain_device(cur_dev);
  auto* l = legacy(cur_dev);
  cudaError_t e = cudaMemcpyAsync(d, s, n, k, l);
  drain_device(cur_dev);
  return e;
}
cudaError_t cudaMemsetAsync(void* d, int v, size_t n, cudaStream_t st) {
  enqueue(st, "cudaMemsetAsync", [=] {
    chk(d, n, true, "memset");
    memset(d, v, n);
    return OpState::done;
  });
  return cudaSuccess;
}
cudaError_t cudaMemset(void* d, int v, size_t n) {
  LOCK;
  auto* l = legacy(cur_dev);
  cudaMemsetAsync(d, v, n, l);
  drain_device(cur_dev);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned) {
  LOCK;
  init();
  *s = new CUstream_st{cur_dev, next_stream_id++, {}, {}};
  streams.push_back(*s);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* s, unsigned f, int) {
  return cudaStreamCreateWithFlags(s, f);
}
cudaError_t cudaStreamCreate(cudaStream_t* s) {
  return cudaStreamCreateWithFlags(s, 0);
}
// Kept as a tombstone (a later use is reported), but emptied.
cudaError_t cudaStreamDestroy(cudaStream_t s) {
  LOCK;
  drain_stream(s);
  s->dead = true;
  std::deque<Op>().swap(s->q);
  streams.erase(std::find(streams.begin(), streams.end(), s));
  static auto& tombs = *new std::vector<CUstream_st*>;
  tombs.push_back(s);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
  LOCK;
  if (!s)
    drain_device(cur_dev);
  else
    drain_stream(s);
  return ret(sticky[cur_dev]);
}
cudaError_t cudaDeviceSynchronize() {
  LOCK;
  drain_device(cur_dev);
  return ret(sticky[cur_dev]);
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) {
  LOCK;
  *e = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* e) {
  return cudaEventCreateWithFlags(e, 0);
}
cudaError_t cudaEventDestroy(cudaEvent_t) {
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
  LOCK;
  uint64_t t = ++e->s.asked;
  e->s.recorded = true;
  enqueue(s, "cudaEventRecord", [=] {
    e->s.done = std::max(e->s.done, t);
    e->s.vc = op_recs[cur_op].vc;
    e->s.t = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
    return OpState::done;
  });
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
  LOCK;
  if (!e->s.recorded) {
    report("event-never-recorded", "cudaStreamWaitEvent on an event that was never recorded does nothing");
    return cudaSuccess;
  }
  uint64_t t = e->s.asked;
  enqueue(s, "cudaStreamWaitEvent", [=] {
    if (e->s.done < t) return OpState::not_ready;
    join(op_recs[cur_op].vc, e->s.vc);
    return OpState::done;
  });
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
  LOCK;
  if (!e->s.recorded) return cudaSuccess;
  uint64_t t = e->s.asked;
  drive(cur_dev, [=] { return e->s.done >= t; });
  join(host_vc, e->s.vc);
  return ret(sticky[cur_dev]);
}
cudaError_t cudaEventQuery(cudaEvent_t e) {
  LOCK;
  return !e->s.recorded || e->s.done >= e->s.asked ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t a, cudaEvent_t b) {
  LOCK;
  *ms = (float)(b->s.t - a->s.t);
  return cudaSuccess;
}
cudaError_t cudaGetLastError() {
  auto e = last_err;
  last_err = cudaSuccess;
  return e;
}
cudaError_t cudaPeekAtLastError() {
  return last_err;
}
const char* cudaGetErrorString(cudaError_t e) {
  return e == cudaSuccess ? "no error" : "gpu_emulation error";
}
const char* cudaGetErrorName(cudaError_t e) {
  return e == cudaSuccess ? "cudaSuccess" : "cudaError";
}
cudaError_t cudaFuncSetAttribute(const void* f, cudaFuncAttribute a, int v) {
  LOCK;
  if (a == cudaFuncAttributeMaxDynamicSharedMemorySize) {
    if (v > 227 << 10) return ret(cudaErrorInvalidValue);
    max_dyn[f] = v;
  }
  return cudaSuccess;
}
}
