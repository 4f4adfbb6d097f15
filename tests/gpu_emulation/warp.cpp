// Warp operations: the lanes of a mask meet, and the last one to come computes for all.
#include <bit>

#include "gpu_emulation/block.h"
#include "gpu_emulation/reports.h"
#include "gpu_emulation/tensor_core.h"

namespace gpu_emulation {

namespace {
// What a lane gets that reads from a lane outside the mask: a NaN in every type, and no plausible number.
constexpr uint64_t undefined_value = 0x7fbadbad7fbadbadu;

/// Calls each(lane's fiber) for the lanes of the mask, first to last.
template <typename Each>
void for_lanes(Fiber* warp, unsigned mask, const Each& each) {
  for (unsigned rest = mask; rest != 0; rest &= rest - 1) each(warp[std::countr_zero(rest)]);
}

/// The result of votes and reductions, which all lanes share.
uint64_t reduce(WarpKind kind, Fiber* warp, unsigned mask) {
  uint32_t result = 0;
  bool first = true;
  for_lanes(warp, mask, [&](const Fiber& f) {
    const auto value = static_cast<uint32_t>(f.call.value);
    const auto as_signed = [](uint32_t x) { return static_cast<int32_t>(x); };
    switch (kind) {
      case WarpKind::ballot:
      case WarpKind::any:
      case WarpKind::all:
        result |= (value & 1u) << f.lane;
        break;
      case WarpKind::add:
        result += value;
        break;
      case WarpKind::min_unsigned:
        result = first || value < result ? value : result;
        break;
      case WarpKind::max_unsigned:
        result = first || value > result ? value : result;
        break;
      case WarpKind::min_signed:
        result = first || as_signed(value) < as_signed(result) ? value : result;
        break;
      case WarpKind::max_signed:
        result = first || as_signed(value) > as_signed(result) ? value : result;
        break;
      case WarpKind::bit_and:
        result = first ? value : result & value;
        break;
      case WarpKind::bit_or:
        result |= value;
        break;
      case WarpKind::bit_xor:
        result ^= value;
        break;
      default:
        break;
    }
    first = false;
  });
  if (kind == WarpKind::any) return result != 0 ? 1 : 0;
  if (kind == WarpKind::all) return result == mask ? 1 : 0;
  return result;
}

/// The lane whose value the lane reads (CUDA C++ Programming Guide, "Warp Shuffle Functions").
int source_lane(const Fiber& f) {
  const int lane = static_cast<int>(f.lane), width = f.call.width, argument = f.call.argument;
  const int begin = lane & ~(width - 1), within = lane & (width - 1);
  switch (f.call.kind) {
    case WarpKind::shuffle:
      return begin + (argument & (width - 1));
    case WarpKind::shuffle_up:
      return within - argument < 0 ? lane : lane - argument;
    case WarpKind::shuffle_down:
      return within + argument >= width ? lane : lane + argument;
    default:  // shuffle_xor
      return (lane ^ argument) >= begin + width ? lane : lane ^ argument;
  }
}

bool is_shuffle(WarpKind kind) {
  return kind == WarpKind::shuffle || kind == WarpKind::shuffle_up || kind == WarpKind::shuffle_down ||
         kind == WarpKind::shuffle_xor;
}

uint64_t result_for(const Fiber& f, Fiber* warp, unsigned mask, uint64_t shared_result) {
  if (is_shuffle(f.call.kind)) {
    const int source = source_lane(f);
    if ((mask >> source & 1u) != 0) return warp[source].call.value;
    report("shuffle-of-absent-lane",
           "block %u warp %u lane %u reads lane %d, which takes no part (mask %08x), at %s:%d", block.linear, f.warp,
           f.lane, source, f.call.mask, f.site.file, f.site.line);
    return undefined_value;
  }
  if (f.call.kind == WarpKind::match_any) {
    unsigned equal = 0;
    for_lanes(warp, mask,
              [&](const Fiber& other) { equal |= other.call.value == f.call.value ? 1u << other.lane : 0u; });
    return equal;
  }
  return shared_result;
}

void complete(Fiber* warp, unsigned lanes, WarpKind kind, Fiber* last) {
  const Fiber& first = warp[std::countr_zero(lanes)];
  for_lanes(warp, lanes, [&](const Fiber& f) {
    if (f.site.line != first.site.line)
      report("divergent-warp-operation", "block %u warp %u: lane %u is at %s:%d, lane %u at %s:%d", block.linear,
             f.warp, first.lane, first.site.file, first.site.line, f.lane, f.site.file, f.site.line);
  });
  if (kind == WarpKind::mma || kind == WarpKind::ldmatrix) {
    void* fragments[32] = {};
    for_lanes(warp, lanes, [&](const Fiber& f) { fragments[f.lane] = f.call.fragments; });
    compute_tensor_core(kind, fragments, lanes);
  }
  const uint64_t shared_result = reduce(kind, warp, lanes);
  for_lanes(warp, lanes, [&](Fiber& f) { f.call.result = result_for(f, warp, lanes, shared_result); });
  const bool whole_warp = kind == WarpKind::sync && lanes == block.live_lanes[first.warp];
  for_lanes(warp, lanes, [&](Fiber& f) {
    if (whole_warp) ++f.warp_epoch;
    if (&f == last)
      f.state = Fiber::State::running;
    else
      make_ready(f);
  });
}

/// Completes the operation if all live lanes of its mask are in it.
bool try_to_complete(int warp_number, unsigned mask, WarpKind kind, Fiber* last) {
  Fiber* warp = &fiber(warp_number * 32);
  const unsigned wanted = mask & block.live_lanes[warp_number];
  if (block.waiting_lanes[warp_number] < std::popcount(wanted)) return false;
  bool all_there = true;
  for_lanes(warp, wanted, [&](const Fiber& f) {
    all_there &= f.state == Fiber::State::in_warp_operation && f.call.kind == kind && f.call.mask == mask;
  });
  if (!all_there) return false;
  block.waiting_lanes[warp_number] -= std::popcount(wanted);
  complete(warp, wanted, kind, last);
  return true;
}

uint64_t enter(const WarpCall& call, Site site) {
  Fiber& me = *running;
  me.site = site;
  if ((call.mask >> me.lane & 1u) == 0) {
    report("warp-mask",
           "block %u thread %u (lane %u) calls a warp operation at %s:%d with mask %08x, which leaves it out",
           block.linear, me.linear, me.lane, site.file, site.line, call.mask);
    abort_block();
  }
  me.call = call;
  me.state = Fiber::State::in_warp_operation;
  ++block.waiting_lanes[me.warp];
  if (!try_to_complete(static_cast<int>(me.warp), call.mask, call.kind, &me)) wait_in_block();
  return me.call.result;
}
}  // namespace

uint64_t warp_operation(WarpKind kind, unsigned mask, uint64_t value, int argument, int width, Site site) {
  return enter({kind, mask, value, 0, argument, width, nullptr}, site);
}

void tensor_core_operation(WarpKind kind, void* fragments, Site site) {
  enter({kind, 0xffffffffu, 0, 0, 0, 32, fragments}, site);
}

void complete_warp_operations(int warp_number) {
  for (int lane = 0; lane < 32; ++lane) {
    if ((block.live_lanes[warp_number] >> lane & 1u) == 0) continue;
    const Fiber& f = fiber(warp_number * 32 + lane);
    if (f.state != Fiber::State::in_warp_operation) continue;
    try_to_complete(warp_number, f.call.mask, f.call.kind, nullptr);
    return;
  }
}

}  // namespace gpu_emulation
