#include "cli/inherited_signals.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdint>

#include "train/signals.h"

namespace strand::cli {

namespace {
/// struct sigaction as the kernel has it. Its first member is all that is read here.
struct KernelAction {
  uintptr_t handler;
  unsigned long others[8];
};
constexpr size_t kernel_mask_bytes = 8;

std::array<bool, stop_signals.size()> ignored_at_start;

/// Runs before the constructors of all shared libraries, so it may not use any of them. The system call is made
/// directly, because sanitizers replace sigaction(), and are not ready yet.
#if defined(__SANITIZE_ADDRESS__) || defined(__clang__)
__attribute__((no_sanitize("address")))
#endif
void look_at_signals() {
  for (size_t i = 0; i < stop_signals.size(); ++i) {
    KernelAction action{};
    if (syscall(SYS_rt_sigaction, stop_signals[i], nullptr, &action, kernel_mask_bytes) == 0)
      ignored_at_start[i] = action.handler == reinterpret_cast<uintptr_t>(SIG_IGN);
  }
}

__attribute__((section(".preinit_array"), used)) void (*const look_first)() = look_at_signals;
}  // namespace

void restore_inherited_signals() {
  for (size_t i = 0; i < stop_signals.size(); ++i) signal(stop_signals[i], ignored_at_start[i] ? SIG_IGN : SIG_DFL);
}

}  // namespace strand::cli
