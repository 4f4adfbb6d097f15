#include "train/signals.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <ctime>

#include "core/remove_temporary_paths.h"

namespace strand {

namespace {
/// GNU `timeout` signals its command and then the command's group. These two signals are one request.
constexpr int64_t same_request_nanoseconds = 20'000'000;

std::atomic<int> first_signal = 0;
std::atomic<int64_t> urgent_since = 0;  ///< when the first SIGINT or SIGTERM came, ns of the monotonic clock; 0 = none
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<int64_t>::is_always_lock_free,
              "a signal handler may not lock");

std::array<struct sigaction, stop_signals.size()> actions_before;

int64_t monotonic_nanoseconds() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * int64_t{1'000'000'000} + t.tv_nsec;
}

extern "C" void on_stop_signal(int signal) {
  int none = 0;
  first_signal.compare_exchange_strong(none, signal);
  if (signal != SIGINT && signal != SIGTERM) return;
  int64_t since = 0;
  if (urgent_since.compare_exchange_strong(since, monotonic_nanoseconds())) return;
  if (monotonic_nanoseconds() - since <= same_request_nanoseconds) return;
  remove_temporary_paths();
  _exit(128 + signal);
}
}  // namespace

int received_signal() {
  return first_signal;
}

StopSignals::StopSignals() {
  first_signal = 0;
  urgent_since = 0;
  struct sigaction action {};
  action.sa_handler = on_stop_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < stop_signals.size(); ++i) {
    sigaction(stop_signals[i], nullptr, &actions_before[i]);
    if (actions_before[i].sa_handler != SIG_IGN) sigaction(stop_signals[i], &action, nullptr);
  }
}

StopSignals::~StopSignals() {
  if (first_signal != 0) return;  // the process is about to end, and a repeated signal must not change how
  for (size_t i = 0; i < stop_signals.size(); ++i) sigaction(stop_signals[i], &actions_before[i], nullptr);
}

int StopSignals::received() const {
  return received_signal();
}

SignalThread::SignalThread() {
  sigset_t stop;
  sigemptyset(&stop);
  for (const int signal : stop_signals) sigaddset(&stop, signal);
  pthread_sigmask(SIG_BLOCK, &stop, &before_);
  thread_ = std::thread([this, stop] {
    pthread_sigmask(SIG_UNBLOCK, &stop, nullptr);
    end_.acquire();
  });
}

SignalThread::~SignalThread() {
  end_.release();
  thread_.join();
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

}  // namespace strand
