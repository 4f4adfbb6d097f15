// The checker's rules. Two accesses of the same bytes, one of them a write and not both atomic, are ordered
//   within a thread;
//   within a warp, by __syncwarp() of the whole warp;
//   within a block, by __syncthreads();
//   between blocks of a grid, only by __threadfence() and an atomic operation on one address ("last block done");
//   between stream operations, by the order of a stream, events and what the host has waited for.
// Where none of these orders them, it is a race, whatever the order was this time.
#include "gpu_emulation/checker.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <tuple>
#include <unordered_map>

#include "gpu_emulation/block.h"
#include "gpu_emulation/checker_access.h"
#include "gpu_emulation/device_memory.h"
#include "gpu_emulation/grid.h"
#include "gpu_emulation/reports.h"
#include "gpu_emulation/shadow.h"
#include "gpu_emulation/streams.h"

extern char __start_gpu_emulation_shared[] __attribute__((weak));
extern char __stop_gpu_emulation_shared[] __attribute__((weak));
extern "C" char __executable_start, end;

namespace gpu_emulation {

bool checker_on = std::getenv("GPU_EMULATION_NOCHECK") == nullptr;

namespace {
enum class Space : uint8_t { own, shared, global, pinned, image, nowhere };

const char* name_of(Space space) {
  return space == Space::shared ? "shared" : space == Space::image ? "static" : "global";
}

bool within(uintptr_t p, size_t bytes, const void* begin, size_t size) {
  const auto b = reinterpret_cast<uintptr_t>(begin);
  return p >= b && p + bytes <= b + size;
}

/// What kind of memory it is that a thread accesses. Space::nowhere: not its to access.
Space space_of(uintptr_t p, size_t bytes) {
  if (within(p, 1, running->context.stack, running->context.stack_bytes)) return Space::own;
  if (within(p, bytes, current_call(), sizeof(KernelCall))) return Space::own;  // kernel parameters
  if (within(p, 1, block.shared, most_shared_bytes))
    return within(p, bytes, block.shared, block.shared_bytes) ? Space::shared : Space::nowhere;
  if (const Allocation* a = find_allocation(reinterpret_cast<const void*>(p))) {
    if (a->freed || p + bytes > a->address + a->bytes) return Space::nowhere;
    return a->pinned ? Space::pinned : Space::global;
  }
  if (in_device_range(reinterpret_cast<const void*>(p))) return Space::nowhere;
  if (__start_gpu_emulation_shared != nullptr &&
      within(p, 1, __start_gpu_emulation_shared,
             static_cast<size_t>(__stop_gpu_emulation_shared - __start_gpu_emulation_shared)))
    return Space::shared;
  // Constants, and with GCC also static shared memory.
  if (within(p, 1, &__executable_start, static_cast<size_t>(&end - &__executable_start))) return Space::image;
  return Space::nowhere;
}

/// "Last block done": what a block has released by a fence and an atomic, and who has acquired it.
struct BlockOrder {
  uint32_t operation = 0;
  std::unordered_map<uint32_t, bool> fenced;                             ///< blocks with a __threadfence()
  std::unordered_map<uintptr_t, std::unordered_map<uint32_t, bool>> at;  ///< by address: blocks that have released
  std::unordered_map<uint64_t, bool> acquired;                           ///< (reader, writer)
};
BlockOrder blocks;

uint64_t pair_of(uint32_t reader, uint32_t writer) {
  return static_cast<uint64_t>(reader) << 32 | writer;
}

/// "" or between whom the earlier access and the present one are not ordered.
const char* unordered_between(const AccessRecord& before, const AccessRecord& now, bool shared) {
  if (before.operation == 0 || (before.bytes & now.bytes) == 0 || (before.atomic && now.atomic)) return "";
  if (before.operation != now.operation) {
    if (shared || happens_before(before.operation, now.operation)) return "";
    return "streams (no event and no synchronisation between the two operations)";
  }
  if (running == nullptr) return "";  // one operation that is no kernel
  if (before.readers == Readers::of_several_blocks || before.block != now.block) {
    if (shared) return "";
    const bool acquired =
        before.readers != Readers::of_several_blocks && blocks.acquired.count(pair_of(now.block, before.block)) > 0;
    return acquired ? "" : "blocks";
  }
  if (before.serial != now.serial || before.epoch != now.epoch) return "";
  if (before.readers == Readers::of_one_block || before.thread / 32 != now.thread / 32)
    return "warps (no __syncthreads between)";
  if (before.warp_epoch != now.warp_epoch) return "";
  if (before.readers == Readers::of_one_warp || before.thread != now.thread) return "lanes (no __syncwarp between)";
  return "";
}

/// One report for a kind and place in an operation: the first is the useful one.
bool is_first(const char* kind, const void* place, int line) {
  static std::map<std::tuple<std::string, const void*, int>, bool> seen;
  static uint32_t operation = 0;
  if (operation != current_operation()) {
    operation = current_operation();
    seen.clear();
  }
  return seen.emplace(std::tuple{std::string(kind), place, line}, true).second;
}

/// File and line of the access; of an instruction, by addr2line.
std::string text_of(const Place& place) {
  char text[300];
  if (place.instruction == nullptr) {
    std::snprintf(text, sizeof text, "%s:%d", place.site.file, place.site.line);
    return text;
  }
  std::snprintf(text, sizeof text, "addr2line -s -e /proc/%d/exe %p 2>/dev/null", static_cast<int>(getpid()),
                static_cast<const void*>(static_cast<const char*>(place.instruction) - 1));
  std::string answer;
  if (FILE* pipe = popen(text, "r")) {
    while (std::fgets(text, sizeof text, pipe) != nullptr) answer += text;
    pclose(pipe);
  }
  while (!answer.empty() && answer.back() == '\n') answer.pop_back();
  return answer;
}

/// One access, as it goes over its cells: what it is, and whether it has been reported.
struct Visit {
  uintptr_t address;
  size_t bytes;
  Kind kind;
  const Place& place;
  Space space;
  AccessRecord now;
  bool reported = false;

  const char* verb() const { return kind == Kind::atomic ? "atomic" : kind == Kind::write ? "write" : "read"; }
  bool reads() const { return kind != Kind::write; }
  bool writes() const { return kind != Kind::read; }
  bool in_shared() const { return space == Space::shared || space == Space::image; }

  /// Reports `fault`, with what `more` adds to the sentence.
  void say(const char* fault, const std::string& more) {
    reported = true;
    const void* where = place.instruction != nullptr ? place.instruction : place.site.file;
    if (!is_first(fault, where, place.site.line)) return;
    report(fault, "%s of %zu bytes of %s memory at %p by block %u thread %u at %s%s", verb(), bytes, name_of(space),
           reinterpret_cast<void*>(address), now.block, now.thread, text_of(place).c_str(), more.c_str());
  }
};

std::string who(const AccessRecord& before) {
  return ": block " + std::to_string(before.block) + " thread " + std::to_string(before.thread) +
         (before.readers == Readers::one ? "" : " and others");
}

void look_for_races(Visit& v, const Cell& cell) {
  if (v.reported) return;
  std::string between = unordered_between(cell.write, v.now, v.in_shared());
  if (!between.empty()) return v.say("race", who(cell.write) + " wrote it before, unordered between " + between);
  if (!v.writes()) return;
  between = unordered_between(cell.read, v.now, v.in_shared());
  if (!between.empty()) v.say("race", who(cell.read) + " read it before, unordered between " + between);
}

void remember_write(Cell& cell, const AccessRecord& now) {
  const AccessRecord& w = cell.write;
  const bool same = w.operation == now.operation && w.block == now.block && w.thread == now.thread &&
                    w.serial == now.serial && w.epoch == now.epoch && w.warp_epoch == now.warp_epoch;
  const uint8_t bytes = same ? static_cast<uint8_t>(w.bytes | now.bytes) : now.bytes;
  cell.write = now;
  cell.write.bytes = bytes;
  cell.initialised |= now.bytes;
}

/// A cell keeps one reader, and how far apart the others were: enough to know whether a later write races with any.
void remember_read(Cell& cell, const AccessRecord& now, bool shared) {
  AccessRecord& r = cell.read;
  if (r.operation == now.operation && !shared && (r.readers == Readers::of_several_blocks || r.block != now.block)) {
    r.readers = Readers::of_several_blocks;
    r.bytes |= now.bytes;
    return;
  }
  if (r.operation != now.operation || r.serial != now.serial || r.epoch != now.epoch) {
    r = now;
    return;
  }
  if (r.thread == now.thread) {
    if (r.readers == Readers::one) r.warp_epoch = now.warp_epoch;
    r.bytes |= now.bytes;
    return;
  }
  const bool same_warp = r.thread / 32 == now.thread / 32;
  if (same_warp && r.warp_epoch != now.warp_epoch && r.readers < Readers::of_one_block) {
    r = now;
    return;
  }
  const Readers readers = same_warp ? Readers::of_one_warp : Readers::of_one_block;
  if (readers > r.readers) r.readers = readers;
  r.bytes |= now.bytes;
}

void visit_cell(Visit& v, Cell& cell) {
  if (v.in_shared() && cell.write.operation != 0 &&
      (cell.write.serial != v.now.serial || cell.write.operation != v.now.operation)) {
    cell = Cell{};  // another block's shared memory
  }
  if (cell.pending && !v.reported) v.say("cp-async-pending", ", which an unfinished cp.async fills");
  if (v.reads() && (cell.initialised & v.now.bytes) != v.now.bytes && !v.reported)
    v.say("uninitialised", ", which nobody has written");
  look_for_races(v, cell);
  if (v.writes())
    remember_write(cell, v.now);
  else
    remember_read(cell, v.now, v.in_shared());
}
}  // namespace

void check(uintptr_t address, size_t bytes, Kind kind, const Place& place) {
  const Space space = running != nullptr ? space_of(address, bytes) : Space::global;
  if (space == Space::own || space == Space::pinned) return;
  Visit v{address, bytes, kind, place, space, {}};
  v.now.operation = current_operation();
  v.now.atomic = kind == Kind::atomic;
  if (running != nullptr) {
    v.now.block = block.linear;
    v.now.serial = block.serial;
    v.now.epoch = block.epoch;
    v.now.thread = static_cast<uint16_t>(running->linear);
    v.now.warp_epoch = static_cast<uint16_t>(running->warp_epoch);
  }
  if (space == Space::nowhere) {
    v.say("out-of-bounds", ", which is not in an allocation");
    constexpr uintptr_t null_page = 4096;
    if (address < null_page || in_device_range(reinterpret_cast<const void*>(address))) abort_block();
    return;
  }
  if (space == Space::image && kind == Kind::read && cell_of(address).write.operation == 0) return;  // a constant
  for (uintptr_t at = address & ~uintptr_t{1}; at < address + bytes; at += 2) {
    const bool even = at >= address, odd = at + 1 >= address && at + 1 < address + bytes;
    v.now.bytes = static_cast<uint8_t>((even ? 1 : 0) | (odd ? 2 : 0));
    visit_cell(v, cell_of(at));
  }
}

void check_access(const void* address, size_t bytes, Access access, Site site) {
  if (!checker_on || bytes == 0) return;
  check(reinterpret_cast<uintptr_t>(address), bytes, access == Access::write ? Kind::write : Kind::read,
        {nullptr, site});
}

void check_range(const void* address, size_t bytes, Access access, const char* what) {
  if (!checker_on || bytes == 0) return;
  Fiber* const thread = running;
  running = nullptr;
  check(reinterpret_cast<uintptr_t>(address), bytes, access == Access::write ? Kind::write : Kind::read,
        {nullptr, {what, 0}});
  running = thread;
}

void checker_begin_block() {
  if (blocks.operation == current_operation()) return;
  blocks = {};
  blocks.operation = current_operation();
}

void checker_new_memory(const void* address, size_t bytes, Initialised initialised) {
  const auto begin = reinterpret_cast<uintptr_t>(address);
  for (uintptr_t at = begin; at < begin + bytes; at += 2) {
    Cell& cell = cell_of(at);
    cell = Cell{};
    cell.initialised = initialised == Initialised::yes ? 3 : 0;
  }
}

void checker_pending(const void* address, size_t bytes, Pending pending) {
  const auto begin = reinterpret_cast<uintptr_t>(address);
  for (uintptr_t at = begin; at < begin + bytes; at += 2) cell_of(at).pending = pending == Pending::yes;
}

void checker_atomic(const volatile void* address, size_t bytes, Site site) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  check(at, bytes, Kind::atomic, {nullptr, site});
  auto& released = blocks.at[at];
  for (const auto& [writer, unused] : released)
    if (writer != block.linear) blocks.acquired[pair_of(block.linear, writer)] = true;
  if (blocks.fenced.count(block.linear) > 0) released[block.linear] = true;
}

void checker_fence(FenceScope scope) {
  if (scope != FenceScope::block) blocks.fenced[block.linear] = true;
}

}  // namespace gpu_emulation
