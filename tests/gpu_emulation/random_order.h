#pragma once
// The order in which the emulation does what a GPU may do in any order, decided by a seed.
#include <cstdint>

#include "gpu_emulation/control.h"

namespace gpu_emulation {

Order current_order();
/// 64 random bits of the seed that set_order() was given, or of GPU_EMULATION_SEED.
uint64_t random_bits();
/// A random number below `limit`.
inline uint32_t random_below(uint32_t limit) {
  return static_cast<uint32_t>((random_bits() & 0xffffffffu) * limit >> 32);
}

}  // namespace gpu_emulation
