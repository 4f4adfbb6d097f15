// For programs without the checker.
#include "gpu_emulation/checker.h"

namespace gpu_emulation {

bool checker_on = false;

void check_access(const void*, size_t, Access, Site) {}
void check_range(const void*, size_t, Access, const char*) {}
void checker_begin_block() {}
void checker_new_memory(const void*, size_t, Initialised) {}
void checker_pending(const void*, size_t, Pending) {}
void checker_atomic(const volatile void*, size_t, Site) {}
void checker_fence(FenceScope) {}

}  // namespace gpu_emulation
