#include "gpu_emulation/faults.h"

#include <ucontext.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "gpu_emulation/block.h"
#include "gpu_emulation/control.h"
#include "gpu_emulation/device_memory.h"
#include "gpu_emulation/reports.h"

namespace gpu_emulation {

namespace {
std::optional<cudaError_t> fault;
void* fault_address = nullptr;

/// Runs on the stack of the thread that faulted, in place of the instruction that did.
[[noreturn]] void end_faulting_thread() {
  const Fiber& me = *running;
  const Allocation* a = find_allocation(fault_address);
  const char* what = in_guard(me.context, fault_address) ? "overflows its stack"
                     : a != nullptr && a->freed          ? "touches freed device memory"
                     : in_device_range(fault_address)    ? "touches memory beyond an allocation"
                                                         : "touches memory that is not the device's";
  fault = cudaErrorIllegalAddress;
  report("illegal-address", "block %u thread %u %s, at %p", block.linear, me.linear, what, fault_address);
  abort_block();
}

void on_fault(int signal, siginfo_t* info, void* where) {
  if (open_at_fault(info->si_addr)) return;
  if (running != nullptr) {
    fault_address = info->si_addr;
    auto& registers = static_cast<ucontext_t*>(where)->uc_mcontext.gregs;
    // As after a call: the stack pointer is 8 below a multiple of 16, below the red zone. A stack that overflowed is
    // gone on with from its top.
    const auto top = reinterpret_cast<greg_t>(running->context.stack + running->context.stack_bytes);
    greg_t stack_pointer = registers[REG_RSP] - 256;
    if (in_guard(running->context, info->si_addr)) stack_pointer = top;
    registers[REG_RSP] = (stack_pointer & ~greg_t{15}) - 8;
    registers[REG_RIP] = reinterpret_cast<greg_t>(&end_faulting_thread);
    return;
  }
  char text[300];
  const Allocation* a = find_allocation(info->si_addr);
  const int length = std::snprintf(text, sizeof text, "GPU emulation: the host touches %s at %p\n",
                                   a == nullptr ? "memory that it must not"
                                   : a->freed   ? "freed device memory"
                                                : "device memory",
                                   info->si_addr);
  if (write(STDERR_FILENO, text, static_cast<size_t>(length)) < 0) {
    // Nothing is left to be done.
  }
  std::signal(signal, SIG_DFL);
  raise(signal);
}

/// A fault that is to happen.
struct Order {
  std::string operation;
  int number = 0;  ///< of such operations, from now on; 0: none any more
  std::string error;
};

/// OPERATION:NUMBER:ERROR
Order order_of(const std::string& text) {
  const size_t first = text.find(':'), second = text.find(':', first + 1);
  if (first == std::string::npos || second == std::string::npos) {
    std::fprintf(stderr, "GPU emulation: GPU_EMULATION_FAULT is OPERATION:NUMBER:ERROR, not '%s'\n", text.c_str());
    std::exit(2);
  }
  return {text.substr(0, first), std::atoi(text.substr(first + 1, second - first - 1).c_str()),
          text.substr(second + 1)};
}

Order ordered = [] {
  const char* given = std::getenv("GPU_EMULATION_FAULT");
  return given != nullptr ? order_of(given) : Order();
}();

constexpr const char* nccl_error = "nccl";

/// Whether it is the turn of the ordered fault.
bool is_due(const char* operation) {
  if (ordered.number == 0 || std::string(operation).find(ordered.operation) == std::string::npos) return false;
  return --ordered.number == 0;
}
}  // namespace

void catch_faults() {
#if !GPU_EMULATION_ASAN
  static char stack[64 << 10];  // the thread's own may be what overflowed
  stack_t alternative{};
  alternative.ss_sp = stack;
  alternative.ss_size = sizeof stack;
  sigaltstack(&alternative, nullptr);
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
#else
  (void)on_fault;
#endif
}

std::optional<cudaError_t> take_fault() {
  const auto taken = fault;
  fault.reset();
  return taken;
}

std::optional<cudaError_t> ordered_fault(const char* operation) {
  if (ordered.error == nccl_error || !is_due(operation)) return {};
  if (ordered.error == "illegal_address") return cudaErrorIllegalAddress;
  if (ordered.error == "ecc") return cudaErrorECCUncorrectable;
  if (ordered.error == "launch_failure") return cudaErrorLaunchFailure;
  if (ordered.error == "out_of_memory") return cudaErrorMemoryAllocation;
  return cudaErrorUnknown;
}

bool ordered_nccl_fault(const char* operation) {
  return ordered.error == nccl_error && is_due(operation);
}

void order_fault(const std::string& text) {
  ordered = order_of(text);
}

}  // namespace gpu_emulation
