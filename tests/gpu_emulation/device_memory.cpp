#include "gpu_emulation/device_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <vector>

#include "gpu_emulation/checker.h"
#include "gpu_emulation/context_switch.h"
#include "gpu_emulation/faults.h"
#include "gpu_emulation/reports.h"

#if GPU_EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(address, bytes) __asan_poison_memory_region(address, bytes)
#define UNPOISON(address, bytes) __asan_unpoison_memory_region(address, bytes)
#else
#define POISON(address, bytes) ((void)0)
#define UNPOISON(address, bytes) ((void)0)
#endif

namespace gpu_emulation {

namespace {
constexpr size_t page = 4096;
constexpr size_t allocation_alignment = 256;          // as cudaMalloc's
constexpr size_t range_bytes = size_t{64} << 30;      // of addresses, for all devices
constexpr size_t memory_of_device = size_t{8} << 30;  // what cudaMemGetInfo says
constexpr size_t most_freed = 4096;                   // freed pieces whose addresses are not used again yet

/// Pages of addresses between two guards.
struct Piece {
  char* begin;
  size_t bytes;
};

struct State {
  char* range = nullptr;
  size_t used = 0;  ///< bytes of the range that were handed out at some time
  std::map<uintptr_t, Allocation> allocations;
  std::map<uintptr_t, Piece> pieces;  ///< by the address of the allocation
  std::deque<Piece> freed;            ///< oldest first
  MemoryUse use[most_devices];
  int open = 0;
  std::vector<Piece> touched;  ///< pieces that can be touched at present
};
/// Never destroyed: streams may run until the very end of the program.
State& state() {
  static State& s = *new State;
  return s;
}

/// Pages of an empty file fault whatever their protection, so that opening the range does not open its guards. Each
/// page stands for the page of the file at its own distance from the start of the range: so neighbours are one mapping,
/// and opening and closing the range costs by what is allocated, not by what was.
void make_guard(char* begin, size_t bytes) {
  static const int empty_file = memfd_create("guard", 0);
  mmap(begin, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, empty_file,
       begin - state().range);
}

void start() {
  State& s = state();
  if (s.range != nullptr) return;
  void* range = mmap(reinterpret_cast<void*>(0x500000000000), range_bytes, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) {
    std::perror("GPU emulation: no addresses for device memory");
    std::abort();
  }
  s.range = static_cast<char*>(range);
  catch_faults();
}

/// Where faults are caught, a piece is opened when a kernel first touches it: opening the whole range would cost as
/// much as there are guards in it. AddressSanitizer keeps the faults to itself, so there the range is opened.
#if GPU_EMULATION_ASAN
constexpr bool opens_at_faults = false;
#else
constexpr bool opens_at_faults = true;
#endif

void open_range() {
  State& s = state();
  if (opens_at_faults) catch_faults();  // a test framework may have taken the signals for itself
  if (!opens_at_faults && s.used > 0) mprotect(s.range, s.used, PROT_READ | PROT_WRITE);
}

void close_range() {
  State& s = state();
  if (!opens_at_faults && s.used > 0) mprotect(s.range, s.used, PROT_NONE);
  for (const Piece& piece : s.touched) mprotect(piece.begin, piece.bytes, PROT_NONE);
  s.touched.clear();
}

/// A piece of exactly `bytes` (a multiple of the page), guard not included.
Piece take_piece(size_t bytes) {
  State& s = state();
  if (s.freed.size() > most_freed) {
    const auto same = std::find_if(s.freed.begin(), s.freed.end(), [&](const Piece& p) { return p.bytes == bytes; });
    if (same != s.freed.end()) {
      const Piece piece = *same;
      s.freed.erase(same);
      for (auto it = s.allocations.lower_bound(reinterpret_cast<uintptr_t>(piece.begin));
           it != s.allocations.end() && it->first < reinterpret_cast<uintptr_t>(piece.begin + piece.bytes);)
        it = s.allocations.erase(it);
      mmap(piece.begin, piece.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
           -1, 0);
      return piece;
    }
  }
  if (s.used + bytes + page > range_bytes) return {nullptr, 0};
  const Piece piece{s.range + s.used, bytes};
  s.used += bytes + page;
  mprotect(piece.begin, bytes, PROT_READ | PROT_WRITE);
  make_guard(piece.begin + bytes, page);
  return piece;
}
}  // namespace

int device_count() {
  static const int count = [] {
    const char* given = std::getenv("GPU_EMULATION_DEVICES");
    return given == nullptr ? 1 : std::clamp(std::atoi(given), 0, most_devices);
  }();
  return count;
}

const Allocation* find_allocation(const void* address) {
  const auto& all = state().allocations;
  const auto p = reinterpret_cast<uintptr_t>(address);
  auto it = all.upper_bound(p);
  if (it == all.begin()) return nullptr;
  --it;
  return p < it->second.address + it->second.bytes ? &it->second : nullptr;
}

bool in_device_range(const void* address) {
  const char* p = static_cast<const char*>(address);
  return state().range != nullptr && p >= state().range && p < state().range + range_bytes;
}

bool is_device_memory(const void* address) {
  const Allocation* a = find_allocation(address);
  return a != nullptr && !a->pinned;
}

bool is_pinned(const void* address) {
  const Allocation* a = find_allocation(address);
  return a != nullptr && a->pinned;
}

bool require_device_range(const void* address, size_t bytes, const char* what) {
  if (bytes == 0) return true;
  const Allocation* a = find_allocation(address);
  if (a != nullptr && !a->pinned && !a->freed && reinterpret_cast<uintptr_t>(address) + bytes <= a->address + a->bytes)
    return true;
  report("out-of-bounds", "%s: %zu bytes at %p are not device memory%s", what, bytes, address,
         a != nullptr && a->freed ? ", it was freed" : "");
  return false;
}

void* allocate_device_memory(size_t bytes, int device) {
  start();
  State& s = state();
  MemoryUse& use = s.use[device];
  use.total = memory_of_device;
  if (bytes == 0 || bytes > memory_of_device - use.live) return nullptr;
  const size_t slot = (bytes + allocation_alignment - 1) / allocation_alignment * allocation_alignment;
  const Piece piece = take_piece((slot + page - 1) / page * page);
  if (piece.begin == nullptr) return nullptr;
  char* const address = piece.begin + piece.bytes - slot;  // the end of the slot touches the guard
  POISON(piece.begin, piece.bytes);
  UNPOISON(address, bytes);
  std::memset(address, 0xff, bytes);
  const auto key = reinterpret_cast<uintptr_t>(address);
  s.allocations[key] = {key, bytes, device, false, false};
  s.pieces[key] = piece;
  use.live += bytes;
  use.peak = std::max(use.peak, use.live);
  ++use.allocations;
  if (checker_on) checker_new_memory(address, bytes, Initialised::no);
  if (s.open == 0 || opens_at_faults) mprotect(piece.begin, piece.bytes, PROT_NONE);
  return address;
}

bool free_device_memory(void* address) {
  State& s = state();
  const auto it = s.allocations.find(reinterpret_cast<uintptr_t>(address));
  if (it == s.allocations.end() || it->second.freed || it->second.pinned) {
    report("bad-free", "free of %p: %s", address,
           it == s.allocations.end() || it->second.pinned ? "it was not allocated" : "it was freed before");
    return false;
  }
  it->second.freed = true;
  s.use[it->second.device].live -= it->second.bytes;
  const Piece piece = s.pieces.at(it->first);
  s.pieces.erase(it->first);
  POISON(piece.begin, piece.bytes);
  make_guard(piece.begin, piece.bytes);
  s.freed.push_back(piece);
  return true;
}

void give_to_library(void* address) {
  const auto it = state().pieces.find(reinterpret_cast<uintptr_t>(address));
  if (it != state().pieces.end()) make_guard(it->second.begin, it->second.bytes);
}

void* allocate_pinned(size_t bytes, int device) {
  start();
  void* const address = std::aligned_alloc(allocation_alignment, std::max<size_t>(1, bytes + allocation_alignment - 1) /
                                                                     allocation_alignment * allocation_alignment);
  if (address == nullptr) return nullptr;
  std::memset(address, 0xff, bytes);
  const auto key = reinterpret_cast<uintptr_t>(address);
  state().allocations[key] = {key, bytes, device, false, true};
  return address;
}

bool free_pinned(void* address) {
  const auto it = state().allocations.find(reinterpret_cast<uintptr_t>(address));
  if (it == state().allocations.end() || !it->second.pinned) {
    report("bad-free", "cudaFreeHost of %p, which cudaMallocHost did not give", address);
    return false;
  }
  state().allocations.erase(it);
  std::free(address);
  return true;
}

MemoryUse memory_use(int device) {
  MemoryUse use = state().use[device];
  use.total = memory_of_device;
  return use;
}

bool open_at_fault(const void* address) {
  State& s = state();
  if (!opens_at_faults || s.open == 0) return false;
  const Allocation* a = find_allocation(address);
  if (a == nullptr || a->freed || a->pinned) return false;
  const Piece piece = s.pieces.at(a->address);
  const auto same = [&](const Piece& p) { return p.begin == piece.begin; };
  if (std::any_of(s.touched.begin(), s.touched.end(), same)) return false;  // a fault of another kind
  s.touched.push_back(piece);
  return mprotect(piece.begin, piece.bytes, PROT_READ | PROT_WRITE) == 0;
}

DeviceMemoryOpen::DeviceMemoryOpen() {
  if (state().open++ == 0) open_range();
}

DeviceMemoryOpen::~DeviceMemoryOpen() {
  if (--state().open == 0) close_range();
}

}  // namespace gpu_emulation
