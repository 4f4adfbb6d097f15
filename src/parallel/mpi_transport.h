#pragma once
// The communication thread: after MPI_Init_thread it alone calls MPI. Collectives wait in two lanes and are in progress
// one at a time in each; the thread starts, tests and sums them until they are complete, spinning for some tens of
// microseconds and then sleeping between tests, so that it leaves the core to computing. With nothing in progress it
// sleeps until it is called.
//
// A collective that is not complete in time ends all ranks; the line on stderr says where and, of ranks on this host,
// for whom it waited. `finish` is the second line of defence, for a communication thread that is stuck inside MPI.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "parallel/mpi_board.h"
#include "parallel/mpi_collective.h"
#include "parallel/mpi_watchdog.h"

namespace strand {

class MpiTransport {
 public:
  /// `told_to_end` as in Processes::start.
  MpiTransport(int rank, int size, MpiBoard& board, std::function<int()> told_to_end);
  /// Completes the collectives that are in progress.
  ~MpiTransport();
  MpiTransport(const MpiTransport&) = delete;
  MpiTransport& operator=(const MpiTransport&) = delete;

  void watchdog(double seconds) { watchdog_seconds_ = seconds; }
  /// Runs `task` on the communication thread, with nothing in progress; what it throws is thrown here.
  void call(const std::function<void()>& task);
  /// Returns the ticket to finish with, above 0.
  int64_t begin(const MpiOrder& order, const MpiGroup& group, Traffic kind, const Place& place);
  /// Waits; returns the seconds from the collective's start to its end. Each ticket once.
  double finish(int64_t ticket);
  /// MPI_Abort; should that hang, the process ends all the same.
  [[noreturn]] void abort(int code);

 private:
  using Clock = std::chrono::steady_clock;

  /// A collective, from its begin to its end.
  struct Item {
    MpiCollective work;
    Waiting waiting;
    Clock::time_point started, ended;
    bool complete = false;
    Item* next = nullptr;  ///< in its lane
  };
  struct LaneState {
    Item* first = nullptr;  ///< waiting
    Item* last = nullptr;
    Item* active = nullptr;
    LaneMemory memory;
  };

  void run();
  bool anything_to_do() const;
  void take_up();
  bool advance(LaneState& lane);
  void rest(std::unique_lock<std::mutex>& lock, Clock::duration since_movement);
  void watch();
  void watch_signal(const Item& item, Clock::time_point now);
  void require_alive(const Waiting* waiting);
  template <typename Condition>
  void wait_for_thread(std::unique_lock<std::mutex>& lock, const Waiting* waiting, Condition condition);
  std::string self() const;
  [[noreturn]] void end_all_ranks(const std::string& message);
  [[noreturn]] void abort_now(int code);

  const int rank_, size_;
  MpiBoard& board_;
  const std::function<int()> told_to_end_;
  std::atomic<double> watchdog_seconds_{600};

  // These are used by the training thread alone.
  std::vector<std::unique_ptr<Item>> items_;  ///< by ticket − 1
  std::vector<int64_t> free_;                 ///< tickets
  int64_t sequence_[Seat::channels] = {};

  // Both threads use these, under the mutex.
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  LaneState lanes_[lane_count];
  const std::function<void()>* task_ = nullptr;
  std::exception_ptr task_error_;
  int abort_code_ = 0;
  bool ending_ = false;

  // These are used by the communication thread alone.
  Clock::time_point watched_{}, signal_seen_{};
  bool signal_told_ = false;
  std::thread thread_;
};

}  // namespace strand
