// Scheduling of a block's threads, and its barriers.
#include "gpu_emulation/block.h"

#include <cstdio>
#include <cstring>
#include <string>

#include "gpu_emulation/checker.h"
#include "gpu_emulation/random_order.h"
#include "gpu_emulation/reports.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace gpu_emulation {

Fiber* running = nullptr;
Block block;

namespace {
// Unoptimised code with much unrolling needs more than 64 KiB. Only pages that are touched exist.
constexpr size_t stack_bytes = 256 << 10;

Fiber fibers[most_threads];
std::vector<uint16_t> ready;
Context launcher;  // the host's thread while a block runs
void (*kernel_body)() = nullptr;

void run_thread();

/// Takes the next thread out of `ready`; null when none is there.
Fiber* next_ready() {
  if (ready.empty()) return nullptr;
  if (current_order() == Order::first_to_last) {
    const uint16_t first = ready.front();
    ready.erase(ready.begin());
    return &fibers[first];
  }
  const size_t i =
      current_order() == Order::random ? random_below(static_cast<uint32_t>(ready.size())) : ready.size() - 1;
  const uint16_t chosen = ready[i];
  ready[i] = ready.back();
  ready.pop_back();
  return &fibers[chosen];
}

void go_on_as(Fiber* next) {
  if (next->state == Fiber::State::fresh) prepare(next->context, run_thread);
  next->state = Fiber::State::running;
  running = next;
  threadIdx = next->index;
}

const char* name_of(WarpKind kind) {
  static const char* const names[] = {
      "__syncwarp",        "__shfl_sync",       "__shfl_up_sync",    "__shfl_down_sync",  "__shfl_xor_sync",
      "__ballot_sync",     "__any_sync",        "__all_sync",        "__match_any_sync",  "__reduce_add_sync",
      "__reduce_min_sync", "__reduce_max_sync", "__reduce_min_sync", "__reduce_max_sync", "__reduce_and_sync",
      "__reduce_or_sync",  "__reduce_xor_sync", "mma.sync",          "ldmatrix"};
  return names[static_cast<int>(kind)];
}

std::string where(const Fiber& f) {
  char text[200];
  switch (f.state) {
    case Fiber::State::at_barrier:
      std::snprintf(text, sizeof text, "__syncthreads at %s:%d", f.site.file, f.site.line);
      return text;
    case Fiber::State::in_warp_operation:
      std::snprintf(text, sizeof text, "%s (mask %08x) at %s:%d", name_of(f.call.kind), f.call.mask, f.site.file,
                    f.site.line);
      return text;
    case Fiber::State::finished:
      return "finished";
    default:
      return "running";
  }
}

[[noreturn]] void report_deadlock() {
  constexpr int most_shown = 6;
  std::string who;
  int shown = 0;
  const Fiber* last = nullptr;
  for (int i = 0; i < block.threads && shown < most_shown; ++i) {
    const Fiber& f = fibers[i];
    if (f.state == Fiber::State::finished) continue;
    if (last != nullptr && last->site.line == f.site.line && last->site.file == f.site.file) continue;
    who += "\n    thread " + std::to_string(i) + ": " + where(f);
    last = &f;
    ++shown;
  }
  report("deadlock", "block %u: no thread can run; %d of %d threads live, %d of them at a barrier:%s", block.linear,
         block.live, block.threads, block.at_barrier, who.c_str());
  abort_block();
}

bool same_site(const Fiber& a, const Fiber& b) {
  return a.site.line == b.site.line && (a.site.file == b.site.file || std::strcmp(a.site.file, b.site.file) == 0);
}

/// All live threads are at the barrier. `last` is the one that came last, or null when one that finished was waited
/// for.
void complete_barrier(Fiber* last) {
  if (block.live < block.threads)
    report("barrier-after-exit", "block %u: __syncthreads reached by %d threads, while %d have returned before",
           block.linear, block.live, block.threads - block.live);
  const Fiber* first = nullptr;
  int count = 0, waiting = 0;
  for (int i = 0; i < block.threads; ++i) {
    const Fiber& f = fibers[i];
    if (f.state != Fiber::State::at_barrier) continue;
    ++waiting;
    if (first == nullptr) first = &f;
    if (f.barrier != first->barrier || !same_site(f, *first)) {
      report("divergent-barrier", "block %u: thread %u waits at %s:%d, thread %u at %s:%d", block.linear, first->linear,
             first->site.file, first->site.line, f.linear, f.site.file, f.site.line);
      abort_block();
    }
    count += f.predicate != 0 ? 1 : 0;
  }
  const BarrierKind kind = first->barrier;
  block.barrier_result = kind == BarrierKind::count ? count
                         : kind == BarrierKind::any ? static_cast<int>(count > 0)
                                                    : static_cast<int>(count == waiting);
  for (int i = 0; i < block.threads; ++i)
    if (fibers[i].state == Fiber::State::at_barrier && &fibers[i] != last) make_ready(fibers[i]);
  block.at_barrier = 0;
  ++block.epoch;
  if (last != nullptr) last->state = Fiber::State::running;
}

/// The end of a CUDA thread.
[[noreturn]] void finish_thread() {
  Fiber& me = *running;
  me.state = Fiber::State::finished;
  --block.live;
  block.live_lanes[me.warp] &= ~(1u << me.lane);
  if (!me.open_copies.empty() || !me.copy_groups.empty())
    report("cp-async-unwaited", "block %u thread %u returns with unfinished cp.async", block.linear, me.linear);
  if (block.live > 0 && block.at_barrier == block.live) complete_barrier(nullptr);
  complete_warp_operations(static_cast<int>(me.warp));
  Fiber* next = next_ready();
  if (next == nullptr && block.live > 0) report_deadlock();
  if (next == nullptr) {
    running = nullptr;
    leave_for(launcher);
  }
  go_on_as(next);
  leave_for(next->context);
}

// AddressSanitizer must not put a frame of its own on a stack that is never unwound.
__attribute__((no_sanitize("address"))) void run_thread() {
  entered();
  kernel_body();
  finish_thread();
}

void reset(Fiber& f, int linear, dim3 shape) {
  f.linear = static_cast<unsigned>(linear);
  f.lane = f.linear % 32;
  f.warp = f.linear / 32;
  f.index = {f.linear % shape.x, f.linear / shape.x % shape.y, f.linear / shape.x / shape.y};
  f.state = Fiber::State::fresh;
  f.site = {"", 0};
  f.warp_epoch = 0;
  f.open_copies.clear();
  f.copy_groups.clear();
}
}  // namespace

Fiber& fiber(int linear) {
  return fibers[linear];
}

void make_ready(Fiber& waiting) {
  waiting.state = Fiber::State::ready;
  ready.push_back(static_cast<uint16_t>(waiting.linear));
}

void wait_in_block() {
  Fiber& me = *running;
  Fiber* next = next_ready();
  if (next == nullptr) report_deadlock();
  go_on_as(next);
  if (next != &me) switch_context(me.context, next->context);
}

void abort_block() {
  block.aborted = true;
  running = nullptr;
  leave_for(launcher);
}

int block_barrier(BarrierKind kind, int predicate, Site site) {
  Fiber& me = *running;
  me.barrier = kind;
  me.predicate = predicate;
  me.site = site;
  me.state = Fiber::State::at_barrier;
  if (++block.at_barrier == block.live)
    complete_barrier(&me);
  else
    wait_in_block();
  return block.barrier_result;
}

bool run_block(dim3 shape, void (*body)()) {
  block.threads = static_cast<int>(shape.x * shape.y * shape.z);
  block.live = block.threads;
  block.at_barrier = 0;
  block.epoch = 0;
  ++block.serial;
  block.aborted = false;
  std::memset(block.live_lanes, 0, sizeof block.live_lanes);
  std::memset(block.waiting_lanes, 0, sizeof block.waiting_lanes);
  ready.clear();
  kernel_body = body;
  for (int i = 0; i < block.threads; ++i) {
    Fiber& f = fibers[i];
    if (f.context.stack == nullptr) make_stack(f.context, stack_bytes, i);
    reset(f, i, shape);
    block.live_lanes[f.warp] |= 1u << f.lane;
    ready.push_back(static_cast<uint16_t>(i));
  }
  adopt_thread(launcher);
  Fiber* first = next_ready();
  go_on_as(first);
  switch_context(launcher, first->context);
  return !block.aborted;
}

void trap(const char* what, Site site) {
  report("trap", "%s at %s:%d by block %u thread %u", what, site.file, site.line, block.linear, running->linear);
  abort_block();
}

void fence(FenceScope scope) {
  if (checker_on) checker_fence(scope);
}

}  // namespace gpu_emulation
