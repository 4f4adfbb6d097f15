#include "train/signals.h"

#include <unistd.h>

#include <csignal>

namespace strand {

namespace {
volatile std::sig_atomic_t received_signal = 0;

extern "C" void on_stop_signal(int signal) {
  if (received_signal != 0) _exit(128 + signal);
  received_signal = signal;
}

void install(void (*handler)(int)) {
  struct sigaction action{};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}
}  // namespace

StopSignals::StopSignals() {
  received_signal = 0;
  install(on_stop_signal);
}

StopSignals::~StopSignals() {
  install(SIG_DFL);
}

int StopSignals::received() const {
  return received_signal;
}

}  // namespace strand
