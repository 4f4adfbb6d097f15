#pragma once
// The checker of memory accesses: bounds, uninitialised reads, races, stream order. It sees the loads and stores of
// kernels that are compiled with the hooks of -fsanitize=thread (sanitizer_hooks.cpp). A program without it links
// checker_absent.cpp, where checker_on is false and the rest is empty.
#include "gpu_emulation/device_hooks.h"

namespace gpu_emulation {

enum class Access : uint8_t { read, write };
enum class Pending : uint8_t { no, yes };
enum class Initialised : uint8_t { no, yes };

extern bool checker_on;

/// An access of the running thread that is no plain load or store.
void check_access(const void* address, size_t bytes, Access access, Site site);
/// An access of the stream operation that runs (a copy, cuBLAS, NCCL), for reports called `what`.
void check_range(const void* address, size_t bytes, Access access, const char* what);

// ---- to be called while checker_on only
void checker_begin_block();
void checker_new_memory(const void* address, size_t bytes, Initialised initialised);
/// From yes to no, an unfinished cp.async fills this memory.
void checker_pending(const void* address, size_t bytes, Pending pending);
void checker_atomic(const volatile void* address, size_t bytes, Site site);
void checker_fence(FenceScope scope);

/// Reports `what` past the end of dynamic shared memory, and ends the block (async_copy.cpp).
void check_shared_range(const void* address, size_t bytes, const char* what, Site site);

}  // namespace gpu_emulation
