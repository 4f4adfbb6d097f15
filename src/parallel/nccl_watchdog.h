#pragma once
// Ends a run whose collectives on GPUs do not end, or whose communicators report an error: another rank has died, or
// the network. The host does not wait for collectives, so nobody else would notice before it waits for numbers, and
// then it would wait for ever. The communicators are aborted first (ncclCommAbort), so that the kernels of NCCL that
// wait for other ranks end, and this process can.
#include <nccl.h>

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "kernels/device.h"
#include "parallel/device_grid.h"

namespace strand {

class NcclWatchdog {
 public:
  /// `rank` of the run, for messages; `progress` outlives the watchdog.
  NcclWatchdog(int rank, const Progress& progress, const DeviceGridOptions& options);
  ~NcclWatchdog();
  NcclWatchdog(const NcclWatchdog&) = delete;
  NcclWatchdog& operator=(const NcclWatchdog&) = delete;

  /// A communicator whose errors are to be looked for.
  void add(ncclComm_t comm);
  /// It goes. Says whether its owner is to destroy it; where the run is being ended, it was aborted.
  bool remove(ncclComm_t comm);
  /// A collective was enqueued whose end `end` marks.
  void watch(const Event& end, Traffic kind);
  /// The event goes.
  void forget(const Event& end);

 private:
  struct Watched {
    const Event* end;
    Traffic kind;
    int64_t step, layer;
    double begin;  ///< by now()
  };
  void look();
  void look_for_errors();
  void look_for_hangs();
  void end_run(const std::string& why);

  int rank_;
  const Progress& progress_;
  DeviceGridOptions options_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Watched> watched_;  ///< oldest first
  std::vector<ncclComm_t> communicators_;
  bool aborted_ = false;  ///< the communicators are
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace strand
