#include "gpu_emulation/context_switch.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#if GPU_EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// Saves what the x86-64 calling convention says a function must keep, and loads what the other context saved.
extern "C" void gpu_emulation_switch(void** save_stack_pointer, void* load_stack_pointer);
#if defined(__x86_64__)
asm(R"(
  .text
  .globl gpu_emulation_switch
  .type gpu_emulation_switch, @function
gpu_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size gpu_emulation_switch, .-gpu_emulation_switch
)");
#else
#error "the emulation switches stacks on x86-64 only"
#endif

namespace gpu_emulation {

namespace {
constexpr size_t page = 4096;
constexpr int saved_registers = 6;
}  // namespace

void make_stack(Context& context, size_t bytes, int stagger) {
  void* memory =
      mmap(nullptr, bytes + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0) {
    std::perror("GPU emulation: no memory for the stack of a CUDA thread");
    std::abort();
  }
  context.stack = static_cast<char*>(memory) + page + (stagger % 32) * 128;
  context.stack_bytes = bytes;
}

void prepare(Context& context, void (*entry)()) {
#if GPU_EMULATION_ASAN
  __asan_unpoison_memory_region(context.stack, context.stack_bytes);
#endif
  const auto top = reinterpret_cast<uintptr_t>(context.stack + context.stack_bytes) & ~uintptr_t{63};
  auto* slot = reinterpret_cast<void**>(top);
  *--slot = nullptr;  // where entry would return to
  *--slot = reinterpret_cast<void*>(entry);
  for (int i = 0; i < saved_registers; ++i) *--slot = nullptr;
  context.stack_pointer = slot;
  context.fake_stack = nullptr;
}

void switch_context(Context& from, Context& to) {
#if GPU_EMULATION_ASAN
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.stack_bytes);
#endif
  gpu_emulation_switch(&from.stack_pointer, to.stack_pointer);
#if GPU_EMULATION_ASAN
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void leave_for(Context& to) {
#if GPU_EMULATION_ASAN
  __sanitizer_start_switch_fiber(nullptr, to.stack, to.stack_bytes);
#endif
  void* dead;
  gpu_emulation_switch(&dead, to.stack_pointer);
  __builtin_unreachable();
}

void entered() {
#if GPU_EMULATION_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

void adopt_thread(Context& context) {
#if GPU_EMULATION_ASAN
  pthread_attr_t attributes;
  void* stack;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &stack, &context.stack_bytes);
  pthread_attr_destroy(&attributes);
  context.stack = static_cast<char*>(stack);
#else
  (void)context;
#endif
}

bool in_stack(const Context& context, const void* address) {
  const char* p = static_cast<const char*>(address);
  return p >= context.stack && p < context.stack + context.stack_bytes;
}

bool in_guard(const Context& context, const void* address) {
  const char* p = static_cast<const char*>(address);
  return p < context.stack && p + 2 * page > context.stack;
}

}  // namespace gpu_emulation
