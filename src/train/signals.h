#pragma once
// SIGINT and SIGTERM ask for a save and a clean end; a second one ends the process at once.

namespace strand {

/// The number of the signal that asked for an end since handlers were last installed, or 0. Any thread may ask.
int received_signal();

/// Installs the handlers for its lifetime.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// The number of the signal that arrived, or 0.
  int received() const;
};

}  // namespace strand
