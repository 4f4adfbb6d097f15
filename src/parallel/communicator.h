#pragma once
// The collectives that training needs, among one group of ranks, on device tensors, in program order with the
// operations of the backend. Only implementations know how bytes travel (mpi_transport.h: MPI on host memory;
// nccl_communicator.h: NCCL between GPUs). A group of one does nothing, and the counting one (for plans) only counts.
// Numbers and texts of the host travel by the control channel (control_channel.h).
//
// A collective is begun and waited for. Between the two, neither what it reads nor what it writes may be touched, and
// other operations and collectives may run: that is all there is to overlap. To wait is to order: operations that are
// enqueued after it see what the collective wrote. The host waits too where the device is the host. Every rank of a
// group begins the same collectives in the same order. `gradients` and `weights` travel in a lane of their own, beside
// the others, so that a large reduction never stands in the way of a layer's rows; within a lane collectives run one
// after the other.
//
// Sums: the same layout and the same library give the same bits on every rank, every time. MPI on the host always adds
// in rank order, in the type of the tensor. NCCL adds in its own order, or in rank order with parallel.deterministic
// (device_grid.h).
//
// The algorithms, with N ranks and B bytes, by which messages and bytes are booked:
//   all_reduce_sum, B ≤ small_bytes   every rank sends all of it to every other:   N − 1 messages, (N − 1) B sent
//   all_reduce_sum, larger            reduce_scatter_sum, then all_gather:         2 (N − 1), 2 (N − 1)/N B
//   reduce_scatter_sum, all_gather    each part to or from its owner:              N − 1, (N − 1)/N B
//   all_to_all                        rows of each pair of ranks:                  N − 1, what is for others
#include <memory>
#include <vector>

#include "core/tensor.h"
#include "parallel/traffic.h"

namespace strand {

/// Rows of a tensor by rank of the group: rank p's are [first[p], first[p] + count[p]).
struct RankRows {
  Tensor tensor;  ///< [rows, ...] any type
  std::vector<int64_t> first, count;
};

/// Which rows of an all-to-all are this rank's own: those that it sends, or those that come back to it. Their bytes are
/// what it books as payload, so that every row is booked on one rank only.
enum class OwnRows : uint8_t { sent, received };

class Communicator {
 public:
  static constexpr size_t small_bytes = size_t{1} << 16;
  /// Elements that the MPI transport sums or rounds at a time: some tens of microseconds.
  static constexpr int64_t slice_elements = 1 << 16;
  /// Elements of a slice to which the parts of all ranks are added in turn, in the first-level cache.
  static constexpr int64_t block_elements = 1024;

  /// A collective in progress; complete when default-constructed.
  struct Work {
    int64_t ticket = 0;
    Traffic kind = Traffic::control;
    explicit operator bool() const { return ticket != 0; }
  };

  Communicator(int rank, int size) : rank_(rank), size_(size) {}
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// Whether it only counts and moves nothing. Code that would read what arrives must then make up something likely.
  virtual bool only_counts() const { return false; }

  /// x = Σ over ranks of x. x is f32 or f64.
  [[nodiscard]] Work begin_all_reduce_sum(Traffic kind, const Tensor& x);
  /// Of x, size() equal parts, rank r's part becomes its Σ over ranks; other parts are undefined afterwards. x is f32
  /// or f64; `travel` is its type, or bf16: parts, this rank's own too, are rounded to it and summed in x's type.
  [[nodiscard]] Work begin_reduce_scatter_sum(Traffic kind, const Tensor& x, DType travel);
  /// Of x, size() equal parts, rank r holds part r before and all of them after. Any type.
  [[nodiscard]] Work begin_all_gather(Traffic kind, const Tensor& x);
  /// Rank p's rows of `send` arrive in rank (this)'s rows of p's `receive`. Counts agree on both sides; 0 is legal
  /// everywhere. Rows of both have the same size and type.
  [[nodiscard]] Work begin_all_to_all(Traffic kind, OwnRows own, const RankRows& send, const RankRows& receive);
  /// Operations begun after this see what the collective wrote. Resets `work`.
  void wait(Work& work);

  void all_reduce_sum(Traffic kind, const Tensor& x);
  void all_to_all(Traffic kind, OwnRows own, const RankRows& send, const RankRows& receive);

  /// What this rank has booked so far. The times of collectives on a device that works while the host goes on are known
  /// later: collect_times() adds them.
  const TrafficCounts& traffic() const { return traffic_; }
  /// Ends a section of collectives. What is begun from now on belongs to the next one.
  virtual void end_section() {}
  /// The times of the oldest section that was ended and not collected, which traffic() then has as well; waits for its
  /// end. Nothing where times are known at once.
  TrafficCounts collect_times();

 protected:
  // Called with size() > 1 and arguments checked. Each starts a collective and returns its ticket, above 0.
  virtual int64_t start_all_reduce_sum(Traffic kind, const Tensor& x) = 0;
  virtual int64_t start_reduce_scatter_sum(Traffic kind, const Tensor& x, DType travel) = 0;
  virtual int64_t start_all_gather(Traffic kind, const Tensor& x) = 0;
  virtual int64_t start_all_to_all(Traffic kind, const RankRows& send, const RankRows& receive) = 0;
  /// Seconds of a collective: from its start to its end, and that computing waited for it.
  struct Times {
    double busy = 0, exposed = 0;
  };
  /// Waits; returns what the collective took as far as it is known now.
  virtual Times finish(int64_t ticket) = 0;
  /// The times that collect_times() adds.
  virtual TrafficCounts times_of_section() { return {}; }

 private:
  Work begun(Traffic kind, int64_t ticket, int64_t messages, double payload, double sent);

  int rank_, size_;
  TrafficCounts traffic_;
};

/// A group of one rank, in which every collective is complete as soon as it begins.
class SelfCommunicator final : public Communicator {
 public:
  SelfCommunicator() : Communicator(0, 1) {}

 private:
  int64_t start_all_reduce_sum(Traffic, const Tensor&) override { return 0; }
  int64_t start_reduce_scatter_sum(Traffic, const Tensor&, DType) override { return 0; }
  int64_t start_all_gather(Traffic, const Tensor&) override { return 0; }
  int64_t start_all_to_all(Traffic, const RankRows&, const RankRows&) override { return 0; }
  Times finish(int64_t) override { return {}; }
};

/// A rank of a group of any size that exists on paper only: what others would send is what this one has.
class CountingCommunicator final : public Communicator {
 public:
  using Communicator::Communicator;
  bool only_counts() const override { return true; }

 private:
  int64_t start_all_reduce_sum(Traffic, const Tensor&) override { return 1; }
  int64_t start_reduce_scatter_sum(Traffic, const Tensor&, DType) override { return 1; }
  int64_t start_all_gather(Traffic, const Tensor&) override { return 1; }
  int64_t start_all_to_all(Traffic, const RankRows&, const RankRows&) override { return 1; }
  Times finish(int64_t) override { return {}; }
};

}  // namespace strand
