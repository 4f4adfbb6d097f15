#pragma once
// Ends a run whose collectives on GPUs do not end. The host does not wait for them, so nobody else would notice before
// it waits for numbers, and then it would wait for ever.
#include <chrono>
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

  /// A collective was enqueued whose end `end` marks.
  void watch(const Event& end, Traffic kind);
  /// The event goes.
  void forget(const Event& end);

 private:
  struct Watched {
    const Event* end;
    Traffic kind;
    int64_t step, layer;
    std::chrono::steady_clock::time_point begin;
  };
  void look();
  void end_run(const Watched& stuck, double seconds);

  int rank_;
  const Progress& progress_;
  DeviceGridOptions options_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Watched> watched_;  ///< oldest first
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace strand
