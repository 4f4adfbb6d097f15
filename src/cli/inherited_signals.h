#pragma once
// What the program that started this one decided about signals: `nohup` ignores SIGHUP, a shell ignores SIGINT for what
// runs in the background. Shared libraries may change that before main() runs. UCX does, which Debian 13's Open MPI
// loads: its constructor takes SIGHUP, so that a run under `nohup` would end with its terminal.

namespace strand::cli {

/// Gives the signals that ask a run to end (train/signals.h) the action that they had when this process began: the
/// default one, or none. To be called first in main(), and again when libraries were loaded that may have done so.
void restore_inherited_signals();

}  // namespace strand::cli
