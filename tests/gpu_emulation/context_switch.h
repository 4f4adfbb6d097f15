#pragma once
// Switching between stacks: the least that a fiber needs.
#include <cstddef>

// AddressSanitizer has to know of every stack.
#if defined(__SANITIZE_ADDRESS__)
#define GPU_EMULATION_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GPU_EMULATION_ASAN 1
#endif
#endif

namespace gpu_emulation {

/// A stack with a guard page below it, and where its code stopped.
struct Context {
  char* stack = nullptr;  ///< lowest address; null for the stack of the host's thread
  size_t stack_bytes = 0;
  void* stack_pointer = nullptr;
  void* fake_stack = nullptr;  ///< AddressSanitizer's
};

/// Reserves a stack. `stagger` moves its top a little: tops at equal offsets in their pages would share cache sets.
void make_stack(Context& context, size_t bytes, int stagger);
/// The next switch to the context calls `entry`, which must not return.
void prepare(Context& context, void (*entry)());
/// Leaves the running code in `from` and goes on in `to`.
void switch_context(Context& from, Context& to);
/// The same, where `from` is never gone on with.
[[noreturn]] void leave_for(Context& to);
/// The first thing that `entry` does.
void entered();
/// `context` is the running thread of the host.
void adopt_thread(Context& context);
/// Whether the address lies in the stack, or in the guard below it.
bool in_stack(const Context& context, const void* address);
bool in_guard(const Context& context, const void* address);

}  // namespace gpu_emulation
