#pragma once
// A process grid whose ranks are threads of this process: every collective of communicator.h on shared memory, so that
// what must not depend on the number of ranks can be compared within one test.
//
// A collective happens either when it is begun or when it is waited for: code that touches a tensor between the two
// behaves differently. Parts that a collective leaves undefined become NaN. A rank that throws ends the others.
#include <omp.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "core/error.h"
#include "parallel/process_grid.h"

namespace strand::test {

/// The moment at which a collective takes place.
enum class Happens : uint8_t { at_begin, at_wait };

/// What the threads of one grid share: one lock for all, and whether one of them has failed.
struct ThreadMeetings {
  std::mutex mutex;
  std::condition_variable changed;
  bool failed = false;

  void fail() {
    const std::lock_guard lock(mutex);
    failed = true;
    changed.notify_all();
  }
};

/// Where the ranks of one group meet.
class ThreadGroup {
 public:
  ThreadGroup(ThreadMeetings& meetings, int size) : meetings_(meetings), size_(size), slots_(size_t(size)) {}

  int size() const { return size_; }
  /// Shows `mine` to the others; body(what everyone shows) runs when all have, and nobody leaves before all are
  /// through.
  template <typename Body>
  void meet(int rank, const void* mine, const Body& body) {
    slots_[size_t(rank)] = mine;
    arrive();
    body(slots_);
    arrive();
  }

 private:
  void arrive() {
    std::unique_lock lock(meetings_.mutex);
    const int64_t round = round_;
    if (++arrived_ == size_) {
      arrived_ = 0;
      ++round_;
      meetings_.changed.notify_all();
    }
    meetings_.changed.wait(lock, [&] { return round_ != round || meetings_.failed; });
    if (round_ == round) throw Error("another rank failed");
  }

  ThreadMeetings& meetings_;
  int size_;
  std::vector<const void*> slots_;
  int arrived_ = 0;
  int64_t round_ = 0;
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<ThreadGroup> group, int rank, Happens happens)
      : Communicator(rank, group->size()), group_(std::move(group)), happens_(happens) {}

 private:
  int64_t start_all_reduce_sum(Traffic, const Tensor& x) override {
    return start([this, x] {
      if (x.dtype == DType::f64)
        all_reduce<double>(x);
      else
        all_reduce<float>(x);
    });
  }

  int64_t start_reduce_scatter_sum(Traffic, const Tensor& x, DType travel) override {
    return start([this, x, travel] {
      if (x.dtype == DType::f64)
        reduce_scatter<double>(x, travel);
      else
        reduce_scatter<float>(x, travel);
    });
  }

  int64_t start_all_gather(Traffic, const Tensor& x) override {
    return start([this, x] {
      const size_t part = x.bytes() / size_t(size());
      group_->meet(rank(), x.data, [&](const std::vector<const void*>& theirs) {
        for (int p = 0; p < size(); ++p)
          if (p != rank()) std::memcpy(at(x.data, size_t(p) * part), at(theirs[size_t(p)], size_t(p) * part), part);
      });
    });
  }

  int64_t start_all_to_all(Traffic, const RankRows& send, const RankRows& receive) override {
    return start([this, send, receive] {
      group_->meet(rank(), &send, [&](const std::vector<const void*>& theirs) {
        for (int p = 0; p < size(); ++p) {
          const auto& from = *static_cast<const RankRows*>(theirs[size_t(p)]);
          const int64_t first = receive.first[size_t(p)], count = receive.count[size_t(p)];
          require(from.count[size_t(rank())] == count, "rank {} sends {} rows, rank {} expects {}", p,
                  from.count[size_t(rank())], rank(), count);
          if (count == 0) continue;
          const Tensor to = receive.tensor.rows(first, first + count);
          std::memcpy(to.data, from.tensor.rows(from.first[size_t(rank())], from.first[size_t(rank())] + count).data,
                      to.bytes());
        }
      });
    });
  }

  Times finish(int64_t ticket) override {
    const double begin = now();
    for (; !waiting_.empty() && waiting_.begin()->first <= ticket; waiting_.erase(waiting_.begin()))
      waiting_.begin()->second();
    return {.busy = now() - begin, .exposed = now() - begin};
  }

  int64_t start(std::function<void()> collective) {
    ++tickets_;
    if (happens_ == Happens::at_begin)
      collective();
    else
      waiting_[tickets_] = std::move(collective);
    return tickets_;
  }

  static void* at(void* base, size_t bytes) { return static_cast<char*>(base) + bytes; }
  static const void* at(const void* base, size_t bytes) { return static_cast<const char*>(base) + bytes; }

  /// Elements [first, first + count) rounded to `travel` and summed in rank order.
  template <typename T>
  std::vector<T> sums(const std::vector<const void*>& theirs, int64_t first, int64_t count, DType travel) const {
    std::vector<T> sum(size_t(count), T(0));
    for (int p = 0; p < size(); ++p) {
      const T* x = static_cast<const T*>(theirs[size_t(p)]) + first;
      const bool rounded = travel == DType::bf16;
      for (int64_t i = 0; i < count; ++i)
        sum[size_t(i)] += rounded ? static_cast<T>(static_cast<float>(bf16(static_cast<float>(x[i])))) : x[i];
    }
    return sum;
  }

  template <typename T>
  void all_reduce(const Tensor& x) {
    std::vector<T> sum;
    group_->meet(rank(), x.data, [&](const auto& theirs) { sum = sums<T>(theirs, 0, x.elements(), x.dtype); });
    std::memcpy(x.data, sum.data(), x.bytes());
  }

  template <typename T>
  void reduce_scatter(const Tensor& x, DType travel) {
    const int64_t part = x.elements() / size();
    std::vector<T> sum;
    group_->meet(rank(), x.data, [&](const auto& theirs) { sum = sums<T>(theirs, rank() * part, part, travel); });
    std::fill_n(x.as<T>(), x.elements(), std::numeric_limits<T>::quiet_NaN());
    std::copy(sum.begin(), sum.end(), x.as<T>() + rank() * part);
  }

  std::shared_ptr<ThreadGroup> group_;
  Happens happens_;
  int64_t tickets_ = 0;
  std::map<int64_t, std::function<void()>> waiting_;
};

class ThreadControl final : public ControlChannel {
 public:
  ThreadControl(std::shared_ptr<ThreadGroup> group, int rank)
      : ControlChannel(rank, group->size()), group_(std::move(group)) {}

 private:
  double gather_bytes(const void* mine, size_t bytes, void* all) override {
    const double begin = now();
    group_->meet(rank(), mine, [&](const std::vector<const void*>& theirs) {
      for (int p = 0; p < size(); ++p)
        std::memcpy(static_cast<char*>(all) + size_t(p) * bytes, theirs[size_t(p)], bytes);
    });
    return now() - begin;
  }

  std::shared_ptr<ThreadGroup> group_;
};

/// Runs body(grid) on every rank of a grid, one thread each with one OpenMP thread. Throws what the first rank to fail
/// threw. Catch's assertions are not for threads: the body brings results home.
inline void run_ranks(int ranks, int expert_parallel, const std::function<void(ProcessGrid&)>& body,
                      Happens happens = Happens::at_wait) {
  require_grid(ranks, expert_parallel);
  ThreadMeetings meetings;
  const auto group = [&](int size) { return std::make_shared<ThreadGroup>(meetings, size); };
  const auto world = group(ranks), hosts = group(ranks);
  const int replicas = ranks / expert_parallel;
  std::vector<std::shared_ptr<ThreadGroup>> experts, copies;
  for (int i = 0; i < replicas; ++i) experts.push_back(group(expert_parallel));
  for (int i = 0; i < expert_parallel; ++i) copies.push_back(group(replicas));

  std::exception_ptr first;
  const auto rank_main = [&](int rank) {
    omp_set_num_threads(1);
    const GridShape at{ranks, expert_parallel, rank};
    ProcessGrid grid(
        std::make_unique<ThreadControl>(hosts, rank), std::make_unique<ThreadCommunicator>(world, rank, happens),
        std::make_unique<ThreadCommunicator>(experts[size_t(at.replica_rank())], at.expert_rank(), happens),
        std::make_unique<ThreadCommunicator>(copies[size_t(at.expert_rank())], at.replica_rank(), happens));
    try {
      body(grid);
    } catch (...) {
      {
        const std::lock_guard lock(meetings.mutex);
        if (!meetings.failed) first = std::current_exception();
      }
      meetings.fail();
    }
  };
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) threads.emplace_back(rank_main, rank);
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace strand::test
