#include "parallel/mpi_transport.h"

#include <fmt/core.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <utility>

#include "core/standard_streams.h"
#include "parallel/mpi_error.h"

namespace strand {

namespace {
using namespace std::chrono_literals;

constexpr auto spinning = 30us;         // after the last thing that moved
constexpr auto shortest_sleep = 10us;   // grows with the time that nothing moved ...
constexpr auto longest_sleep = 200us;   // ... to this: some percent of a core
constexpr auto between_watches = 20ms;  // looks at the clock and for signals
constexpr auto after_signal = 300ms;    // mpirun kills a second after it signalled
constexpr double stuck_seconds = 10;    // beyond the watchdog's, in which the communication thread should have acted
constexpr int exit_error = 1;

Lane lane_of(Traffic kind) {
  return kind == Traffic::gradients || kind == Traffic::weights ? Lane::background : Lane::foreground;
}

double seconds(std::chrono::steady_clock::duration d) {
  return std::chrono::duration<double>(d).count();
}

void say(const std::string& line) {
  write_error(line + "\n");
  std::fflush(nullptr);
}
}  // namespace

MpiTransport::MpiTransport(int rank, int size, MpiBoard& board, std::function<int()> told_to_end)
    : rank_(rank), size_(size), board_(board), told_to_end_(std::move(told_to_end)) {
  // Signals are for the training thread, whose waits they may interrupt.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

MpiTransport::~MpiTransport() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

// ---- the training thread --------------------------------------------------------------------------------------------

int64_t MpiTransport::begin(const MpiOrder& order, const MpiGroup& group, Traffic kind, const Place& place) {
  if (free_.empty()) {
    items_.push_back(std::make_unique<Item>());
    free_.push_back(static_cast<int64_t>(items_.size()));
  }
  const int64_t ticket = free_.back();
  Item& item = *items_[static_cast<size_t>(ticket - 1)];
  const Lane lane = lane_of(kind);
  item.work.prepare(order, group, lane);
  free_.pop_back();
  const int channel = group.index * lane_count + static_cast<int>(lane);
  item.waiting = {kind, group.name, &group.ranks, place, channel, ++sequence_[channel]};
  item.complete = false;
  item.next = nullptr;
  board_.mine().enter(channel, place);
  {
    const std::lock_guard lock(mutex_);
    LaneState& state = lanes_[static_cast<size_t>(lane)];
    (state.first ? state.last->next : state.first) = &item;
    state.last = &item;
  }
  wake_.notify_one();
  return ticket;
}

double MpiTransport::finish(int64_t ticket) {
  Item& item = *items_[static_cast<size_t>(ticket - 1)];
  std::unique_lock lock(mutex_);
  wait_for_thread(lock, &item.waiting, [&] { return item.complete; });
  free_.push_back(ticket);
  return seconds(item.ended - item.started);
}

void MpiTransport::call(const std::function<void()>& task) {
  std::unique_lock lock(mutex_);
  task_ = &task;
  wake_.notify_one();
  wait_for_thread(lock, nullptr, [&] { return task_ == nullptr; });
  if (task_error_) std::rethrow_exception(std::exchange(task_error_, nullptr));
}

template <typename Condition>
void MpiTransport::wait_for_thread(std::unique_lock<std::mutex>& lock, const Waiting* waiting, Condition condition) {
  while (!done_.wait_for(lock, 1s, condition)) require_alive(waiting);
}

/// The communication thread ends all ranks when its time has come, unless it does not come back from a call of MPI.
void MpiTransport::require_alive(const Waiting* waiting) {
  const double still = board_.mine().seconds_since_beat();
  if (still < watchdog_seconds_ + stuck_seconds) return;
  say(fmt::format("strand: error: {} has been inside MPI for {:.0f} s {}; ending", self(), still,
                  waiting ? where(*waiting) : "while communicators were made"));
  _exit(exit_error);
}

void MpiTransport::abort(int code) {
  board_.first_to_report();  // whoever calls has said why
  {
    const std::lock_guard lock(mutex_);
    abort_code_ = code;
  }
  wake_.notify_one();
  std::this_thread::sleep_for(5s);  // the communication thread ends the process before that
  _exit(code);
}

// ---- the communication thread ---------------------------------------------------------------------------------------

void MpiTransport::run() {
  prctl(PR_SET_TIMERSLACK, 1000);  // sleeps of 10 µs would otherwise last 60
  std::unique_lock lock(mutex_);
  Clock::time_point moved = Clock::now();
  for (;;) {
    board_.mine().beat();
    if (abort_code_ != 0) abort_now(abort_code_);
    take_up();
    const bool busy = lanes_[0].active || lanes_[1].active;
    if (!busy && task_) {
      lock.unlock();
      try {
        (*task_)();
      } catch (...) {
        task_error_ = std::current_exception();
      }
      lock.lock();
      task_ = nullptr;
      done_.notify_all();
    } else if (!busy && ending_) {
      return;
    } else if (!busy) {
      wake_.wait(lock, [&] { return anything_to_do(); });
      moved = Clock::now();
    } else {
      lock.unlock();
      bool any = false;
      for (LaneState& lane : lanes_) any |= lane.active && advance(lane);
      watch();
      lock.lock();
      if (any)
        moved = Clock::now();
      else
        rest(lock, Clock::now() - moved);
    }
  }
}

bool MpiTransport::anything_to_do() const {
  return lanes_[0].first || lanes_[1].first || task_ || abort_code_ != 0 || ending_;
}

/// The first collective of each idle lane becomes its active one.
void MpiTransport::take_up() {
  for (LaneState& lane : lanes_) {
    if (lane.active || !lane.first) continue;
    lane.active = std::exchange(lane.first, lane.first->next);
    lane.active->started = {};
  }
}

/// Returns true when something moved, so that there may be more to do at once.
bool MpiTransport::advance(LaneState& lane) {
  Item& item = *lane.active;
  try {
    if (item.started == Clock::time_point{}) {
      item.started = Clock::now();
      item.work.start(lane.memory);
      return true;
    }
    const MpiCollective::Advance advanced = item.work.advance(lane.memory);
    if (advanced != MpiCollective::Advance::complete) return advanced == MpiCollective::Advance::moved;
  } catch (const std::exception& error) {
    end_all_ranks(fmt::format("{} has failed {}: {}", self(), where(item.waiting), error.what()));
  }
  item.ended = Clock::now();
  board_.mine().left[static_cast<size_t>(item.waiting.channel)].fetch_add(1);
  const std::lock_guard lock(mutex_);
  item.complete = true;  // from now on the training thread may use it again
  lane.active = nullptr;
  done_.notify_all();
  return true;
}

void MpiTransport::rest(std::unique_lock<std::mutex>& lock, Clock::duration since_movement) {
  if (since_movement < spinning) return;
  const auto pause = std::clamp<Clock::duration>(since_movement / 16, shortest_sleep, longest_sleep);
  const auto news = [&] {
    return abort_code_ != 0 || (!lanes_[0].active && lanes_[0].first) || (!lanes_[1].active && lanes_[1].first);
  };
  wake_.wait_for(lock, pause, news);
}

void MpiTransport::watch() {
  const Clock::time_point now = Clock::now();
  if (now - watched_ < between_watches) return;
  watched_ = now;
  if (signal_seen_ == Clock::time_point{} && told_to_end_() != 0) signal_seen_ = now;
  for (const LaneState& lane : lanes_) {
    if (!lane.active) continue;
    const Item& item = *lane.active;
    const double waited = seconds(now - item.started);
    if (waited > watchdog_seconds_)
      end_all_ranks(fmt::format("{} has waited {:.0f} s {}: {}", self(), waited, where(item.waiting),
                                who_is_missing(item.waiting, rank_, board_)));
    watch_signal(item, now);
  }
}

/// mpirun signals the survivors when a process died without a word: this line is where a user learns what it was in the
/// middle of. The signal may as well be a user's request to save and end, so nothing else happens.
void MpiTransport::watch_signal(const Item& item, Clock::time_point now) {
  if (signal_told_ || signal_seen_ == Clock::time_point{}) return;
  if (now - std::max(signal_seen_, item.started) < after_signal) return;
  signal_told_ = true;
  if (board_.reported()) return;
  say(fmt::format("strand: {} was told to end (signal {}) while it waited {}: {}", self(), told_to_end_(),
                  where(item.waiting), who_is_missing(item.waiting, rank_, board_)));
}

std::string MpiTransport::self() const {
  return fmt::format("rank {} of {}", rank_, size_);
}

void MpiTransport::end_all_ranks(const std::string& message) {
  if (board_.first_to_report())
    say(fmt::format("strand: error: {}; ending all ranks", message));
  else
    std::this_thread::sleep_for(2s);  // another rank of this host said what is wrong, and ends this one too
  abort_now(exit_error);
}

void MpiTransport::abort_now(int code) {
  std::thread([code] {
    std::this_thread::sleep_for(3s);
    _exit(code);
  }).detach();
  MPI_Abort(MPI_COMM_WORLD, code);
  _exit(code);
}

}  // namespace strand
