#pragma once
// Signals that ask a training run for a save and a clean end:
//
//   SIGINT, SIGTERM            a person, or what supervises the process. A second one ends the process at once.
//   SIGHUP                     the terminal or the ssh connection is gone
//   SIGUSR1, SIGUSR2           a batch system's warning before its time limit (Slurm: --signal)
//   SIGXCPU                    the limit of CPU time; the system repeats it every second until the hard limit
//
// The last four may come several times, or be followed by SIGTERM while the checkpoint is being written, so only a
// second SIGINT or SIGTERM ends the process at once.
#include <signal.h>

#include <array>
#include <semaphore>
#include <thread>

namespace strand {

inline constexpr std::array stop_signals = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU};

/// The number of the signal that asked for an end since handlers were last installed, or 0. Any thread may ask.
int received_signal();

/// Installs the handlers for its lifetime. Signals that the process was told to ignore (nohup, a background job of a
/// script) stay ignored. After a signal the handlers stay until the process ends. There is at most one such object.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// The number of the first signal that arrived, or 0.
  int received() const;
};

/// Starts a thread that stop signals interrupt, for the object's lifetime. The thread that creates the object blocks
/// them, and so do all threads that are started later.
///
/// Threads that compute must not be interrupted: kernels that oneDNN generates use the stack pointer as one register
/// more, and the system would write the signal's frame over the data that lies there. So this comes before the first
/// parallel region.
class SignalThread {
 public:
  SignalThread();
  ~SignalThread();
  SignalThread(const SignalThread&) = delete;
  SignalThread& operator=(const SignalThread&) = delete;

 private:
  sigset_t before_;
  std::binary_semaphore end_{0};
  std::thread thread_;
};

}  // namespace strand
