#pragma once
// What the hooks of the compiler (sanitizer_hooks.cpp) tell the checker.
#include <cstddef>
#include <cstdint>

#include "gpu_emulation/device_hooks.h"

namespace gpu_emulation {

enum class Kind : uint8_t { read, write, atomic };

/// Where an access is in the source: an instruction, or a site when there is none.
struct Place {
  const void* instruction = nullptr;
  Site site{"", 0};
};

void check(uintptr_t address, size_t bytes, Kind kind, const Place& place);

}  // namespace gpu_emulation
