#include "parallel/nccl_watchdog.h"

#include <fmt/core.h>

#include <cstdio>

#include "core/error.h"

namespace strand {

namespace {
constexpr auto interval = std::chrono::milliseconds(200);
constexpr size_t most_watched = 4096;  // the oldest one matters
constexpr int exit_error = 1;

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}
}  // namespace

NcclWatchdog::NcclWatchdog(int rank, const Progress& progress, const DeviceGridOptions& options)
    : rank_(rank), progress_(progress), options_(options), thread_([this] { look(); }) {}

NcclWatchdog::~NcclWatchdog() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void NcclWatchdog::watch(const Event& end, Traffic kind) {
  const std::lock_guard lock(mutex_);
  // An event that is recorded again stands for the later collective.
  std::erase_if(watched_, [&](const Watched& w) { return w.end == &end; });
  if (watched_.size() < most_watched)
    watched_.push_back({&end, kind, progress_.step.load(), progress_.layer.load(), std::chrono::steady_clock::now()});
}

void NcclWatchdog::forget(const Event& end) {
  const std::lock_guard lock(mutex_);
  std::erase_if(watched_, [&](const Watched& w) { return w.end == &end; });
}

void NcclWatchdog::look() {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, interval, [this] { return ending_; })) {
    // Young ones are left alone: most of them are over before anybody asks.
    while (!watched_.empty() && seconds_since(watched_.front().begin) > options_.watchdog_seconds / 2) {
      bool over = false;
      try {
        over = watched_.front().end->happened();
      } catch (const Error&) {
        return;  // the GPU failed: the training thread says so
      }
      const double seconds = seconds_since(watched_.front().begin);
      if (!over && seconds > options_.watchdog_seconds) end_run(watched_.front(), seconds);
      if (!over) break;
      watched_.erase(watched_.begin());
    }
  }
}

void NcclWatchdog::end_run(const Watched& stuck, double seconds) {
  fmt::print(stderr,
             "strand: error: rank {}: a collective on GPUs ({}, step {}, layer {}) has not ended for {:.0f} s: another "
             "rank has not come to it, or the network is down. All ranks end (parallel.watchdog_seconds)\n",
             rank_, to_string(stuck.kind), stuck.step + 1, stuck.layer, seconds);
  std::fflush(stderr);
  options_.end_all_ranks(exit_error);
}

}  // namespace strand
