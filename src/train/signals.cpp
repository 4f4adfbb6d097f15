#include "train/signals.h"

#include <unistd.h>

#include <atomic>
#include <csignal>

namespace strand {

namespace {
std::atomic<int> last_signal = 0;
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may not lock");

extern "C" void on_stop_signal(int signal) {
  if (last_signal.exchange(signal) != 0) _exit(128 + signal);
}

void install(void (*handler)(int)) {
  struct sigaction action{};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}
}  // namespace

int received_signal() {
  return last_signal;
}

StopSignals::StopSignals() {
  last_signal = 0;
  install(on_stop_signal);
}

StopSignals::~StopSignals() {
  install(SIG_DFL);
}

int StopSignals::received() const {
  return received_signal();
}

}  // namespace strand
