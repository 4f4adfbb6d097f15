#include "gpu_emulation/internal.h"
namespace gpu_emulation {
bool checker_on;
void checker_block_begin() {}
void checker_alloc(uintptr_t, size_t, bool) {}
void checker_range(const void*, size_t, bool, const char*) {}
void checker_pending(const void*, size_t, bool) {}
void checker_atomic(const volatile void*, size_t, const char*, int) {}
void checker_fence(int) {}
void check_access(const void*, size_t, bool, const char*, int) {}
}  // namespace gpu_emulation
