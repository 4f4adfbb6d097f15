#include "parallel/nccl_watchdog.h"

#include <fmt/core.h>

#include <chrono>
#include <cstdio>

#include "core/clock.h"
#include "core/error.h"

namespace strand {

namespace {
constexpr auto interval = std::chrono::milliseconds(200);
constexpr size_t most_watched = 4096;  // the oldest one matters
constexpr int exit_error = 1;
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
    watched_.push_back({&end, kind, progress_.step.load(), progress_.layer.load(), now()});
}

void NcclWatchdog::forget(const Event& end) {
  const std::lock_guard lock(mutex_);
  std::erase_if(watched_, [&](const Watched& w) { return w.end == &end; });
}

void NcclWatchdog::add(ncclComm_t comm) {
  const std::lock_guard lock(mutex_);
  communicators_.push_back(comm);
}

bool NcclWatchdog::remove(ncclComm_t comm) {
  const std::lock_guard lock(mutex_);
  std::erase(communicators_, comm);
  return !aborted_;
}

void NcclWatchdog::look() {
  std::unique_lock lock(mutex_);
  while (!aborted_ && !wake_.wait_for(lock, interval, [this] { return ending_; })) {
    try {
      look_for_errors();
      if (!aborted_) look_for_hangs();
    } catch (const Error&) {
      return;  // the GPU failed: the training thread says so
    }
  }
}

void NcclWatchdog::look_for_errors() {
  for (const ncclComm_t comm : communicators_) {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm, &state);
    if (asked != ncclSuccess) state = asked;
    if (state == ncclSuccess || state == ncclInProgress) continue;
    return end_run(fmt::format(
        "NCCL reports: {} (step {}, layer {}, {}): another rank has died, or the network is down",
        ncclGetErrorString(state), progress_.step.load() + 1, progress_.layer.load(), progress_.doing.load()));
  }
}

void NcclWatchdog::look_for_hangs() {
  // Young ones are left alone: most of them are over before anybody asks.
  while (!watched_.empty() && now() - watched_.front().begin > options_.watchdog_seconds / 2) {
    const Watched& oldest = watched_.front();
    const bool over = oldest.end->happened();
    const double seconds = now() - oldest.begin;
    if (!over && seconds > options_.watchdog_seconds)
      return end_run(
          fmt::format("a collective on GPUs ({}, step {}, layer {}) has not ended for {:.0f} s: another rank "
                      "has not come to it, or the network is down",
                      to_string(oldest.kind), oldest.step + 1, oldest.layer, seconds));
    if (!over) break;
    watched_.erase(watched_.begin());
  }
}

void NcclWatchdog::end_run(const std::string& why) {
  fmt::print(stderr, "strand: error: rank {}: {}. All ranks end (parallel.watchdog_seconds)\n", rank_, why);
  std::fflush(stderr);
  aborted_ = true;
  for (const ncclComm_t comm : communicators_) ncclCommAbort(comm);
  options_.end_all_ranks(exit_error);
}

}  // namespace strand
