// The functions that code compiled with -fsanitize=thread calls before its loads and stores (LLVM,
// ThreadSanitizer.cpp). They are linked instead of ThreadSanitizer itself.
#include <cstring>

#include "gpu_emulation/block.h"
#include "gpu_emulation/checker.h"
#include "gpu_emulation/checker_access.h"
#include "gpu_emulation/reports.h"

namespace gpu_emulation {

namespace {
enum class Aligned : uint8_t { no, yes };

void hook(const void* address, size_t bytes, Kind kind, const void* instruction, Aligned aligned) {
  if (running == nullptr || !checker_on) return;
  const auto at = reinterpret_cast<uintptr_t>(address);
  if (aligned == Aligned::yes && at % bytes != 0)
    report("misaligned", "%s of %zu bytes at %p by block %u thread %u", kind == Kind::write ? "write" : "read", bytes,
           address, block.linear, running->linear);
  check(at, bytes, kind, {instruction, {"", 0}});
}
}  // namespace

}  // namespace gpu_emulation

using gpu_emulation::Aligned;
using gpu_emulation::hook;
using gpu_emulation::Kind;

#define HERE __builtin_return_address(0)

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

#define ALIGNED_HOOKS(n)                         \
  void __tsan_read##n(void* p) {                 \
    hook(p, n, Kind::read, HERE, Aligned::yes);  \
  }                                              \
  void __tsan_write##n(void* p) {                \
    hook(p, n, Kind::write, HERE, Aligned::yes); \
  }                                              \
  void __tsan_volatile_read##n(void* p) {        \
    hook(p, n, Kind::read, HERE, Aligned::yes);  \
  }                                              \
  void __tsan_volatile_write##n(void* p) {       \
    hook(p, n, Kind::write, HERE, Aligned::yes); \
  }                                              \
  void __tsan_read_write##n(void* p) {           \
    hook(p, n, Kind::read, HERE, Aligned::yes);  \
    hook(p, n, Kind::write, HERE, Aligned::yes); \
  }
ALIGNED_HOOKS(1)
ALIGNED_HOOKS(2)
ALIGNED_HOOKS(4)
ALIGNED_HOOKS(8)
ALIGNED_HOOKS(16)
#undef ALIGNED_HOOKS

#define UNALIGNED_HOOKS(n)                       \
  void __tsan_unaligned_read##n(void* p) {       \
    hook(p, n, Kind::read, HERE, Aligned::no);   \
  }                                              \
  void __tsan_unaligned_write##n(void* p) {      \
    hook(p, n, Kind::write, HERE, Aligned::no);  \
  }                                              \
  void __tsan_unaligned_read_write##n(void* p) { \
    hook(p, n, Kind::read, HERE, Aligned::no);   \
    hook(p, n, Kind::write, HERE, Aligned::no);  \
  }
UNALIGNED_HOOKS(2)
UNALIGNED_HOOKS(4)
UNALIGNED_HOOKS(8)
UNALIGNED_HOOKS(16)
#undef UNALIGNED_HOOKS

void __tsan_read_range(void* p, unsigned long n) {
  hook(p, n, Kind::read, HERE, Aligned::no);
}
void __tsan_write_range(void* p, unsigned long n) {
  hook(p, n, Kind::write, HERE, Aligned::no);
}
void* __tsan_memcpy(void* to, const void* from, unsigned long n) {
  hook(from, n, Kind::read, HERE, Aligned::no);
  hook(to, n, Kind::write, HERE, Aligned::no);
  return std::memcpy(to, from, n);
}
void* __tsan_memmove(void* to, const void* from, unsigned long n) {
  hook(from, n, Kind::read, HERE, Aligned::no);
  hook(to, n, Kind::write, HERE, Aligned::no);
  return std::memmove(to, from, n);
}
void* __tsan_memset(void* to, int value, unsigned long n) {
  hook(to, n, Kind::write, HERE, Aligned::no);
  return std::memset(to, value, n);
}

// Guards of static variables inside functions (of host code in the same files), and reference counts.
char __tsan_atomic8_load(const volatile char* p, int) {
  return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
int __tsan_atomic32_load(const volatile int* p, int) {
  return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
int __tsan_atomic32_fetch_add(volatile int* p, int value, int) {
  return __atomic_fetch_add(p, value, __ATOMIC_ACQ_REL);
}

}  // extern "C"
