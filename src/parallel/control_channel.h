#pragma once
// The messages that the hosts of the ranks send each other: what they agree on, signals, errors, who was slow. They are
// few numbers and texts, never tensors, which are the business of communicators (communicator.h). A message is complete
// when the call returns; the host waits for the other ranks, never for a device. All ranks make the same calls in the
// same order.
#include <cstdint>
#include <string>
#include <vector>

#include "parallel/traffic.h"

namespace strand {

class ControlChannel {
 public:
  ControlChannel(int rank, int size) : rank_(rank), size_(size) {}
  virtual ~ControlChannel() = default;
  ControlChannel(const ControlChannel&) = delete;
  ControlChannel& operator=(const ControlChannel&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }

  /// Returns what every rank gave, in rank order.
  std::vector<int64_t> all_gather(int64_t mine);
  std::vector<double> all_gather(double mine);
  std::vector<std::string> all_gather(const std::string& mine);
  int64_t all_reduce_sum(int64_t mine);
  int64_t all_reduce_max(int64_t mine);
  /// No rank returns before every rank has called this.
  void barrier();

  /// What this rank has sent, and how long it waited.
  const TrafficCounts::Kind& traffic() const { return traffic_; }

 protected:
  /// `all` receives size() · bytes, in rank order. Called with size() > 1. Returns the seconds that it took.
  virtual double gather_bytes(const void* mine, size_t bytes, void* all) = 0;

 private:
  void gather(const void* mine, size_t bytes, void* all);
  template <typename T>
  std::vector<T> gather_numbers(T mine);

  int rank_, size_;
  TrafficCounts::Kind traffic_;
};

/// The channel of a rank that is alone.
class SelfControl final : public ControlChannel {
 public:
  SelfControl() : ControlChannel(0, 1) {}

 private:
  double gather_bytes(const void*, size_t, void*) override { return 0; }
};

/// A rank of a run that exists on paper only: what others would send is what this one has.
class CountingControl final : public ControlChannel {
 public:
  using ControlChannel::ControlChannel;

 private:
  double gather_bytes(const void* mine, size_t bytes, void* all) override;
};

}  // namespace strand
