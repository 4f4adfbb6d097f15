#pragma once
// Communicator over NCCL on the memory of GPUs. Collectives are enqueued on the communication stream, after what the
// compute stream holds when they begin; to wait for one is to hold the compute stream, and the host goes on. All groups
// and all kinds of traffic share that one stream, as NCCL's kernels of several communicators may wait for each other's
// place on the GPU when they run side by side. Four events of the GPU keep the times of each collective: its start and
// its end on the communication stream, and on the compute stream when that came to the wait and when it went on. They
// are read when their section is collected.
#include <nccl.h>

#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "kernels/cuda/cuda_device.h"
#include "parallel/communicator.h"
#include "parallel/device_grid.h"
#include "parallel/nccl_watchdog.h"

namespace strand {

class NcclCommunicator final : public Communicator {
 public:
  /// For this rank of one of the groups of a run. All ranks of the run make theirs together, as `hosts` tells them of
  /// each other.
  NcclCommunicator(CudaDevice& device, const ProcessGrid::Group& group, ControlChannel& hosts, SumOrder order,
                   std::shared_ptr<NcclWatchdog> watchdog);
  ~NcclCommunicator() override;

  /// One small collective of each kind, so that connections are there before they are timed. Not booked.
  void warm_up();

  void end_section() override { sections_.emplace_back(); }

 protected:
  int64_t start_all_reduce_sum(Traffic kind, const Tensor& x) override;
  int64_t start_reduce_scatter_sum(Traffic kind, const Tensor& x, DType travel) override;
  int64_t start_all_gather(Traffic kind, const Tensor& x) override;
  int64_t start_all_to_all(Traffic kind, const RankRows& send, const RankRows& receive) override;
  /// Holds the compute stream. Nothing is known of the times yet.
  Times finish(int64_t ticket) override;
  TrafficCounts times_of_section() override;

 private:
  /// A collective that was enqueued, by the events that keep its times.
  struct Enqueued {
    Traffic kind;
    Event* start;
    Event* end;
    Event* reached = nullptr;  ///< the compute stream came to the wait
    Event* resumed = nullptr;  ///< and went on
  };
  struct Section {
    std::deque<Enqueued> waited_for;
    TrafficCounts times;  ///< of those that were waited for before these
  };

  Event* take_event();
  /// Adds the times of the section's oldest collective, which has ended, and frees its events.
  void read_oldest(Section& section);
  template <typename Enqueue>
  int64_t enqueued(Traffic kind, const Enqueue& enqueue);
  /// Part p of `send` goes to rank p; what rank p sends arrives as part p of `receive`. Equal parts, one a rank.
  void exchange_parts(const Tensor& send, const Tensor& receive);
  void reduce_scatter_in_order(const Tensor& x, DType travel);
  void all_reduce_in_order(const Tensor& x);
  /// Memory of the collective that runs; the next one on the stream uses the same.
  Tensor scratch(size_t slot, DType type, const Shape& shape);
  void check(ncclResult_t result, const char* what) const;

  CudaDevice& device_;
  SumOrder order_;
  cudaStream_t stream_;
  ncclComm_t comm_ = nullptr;
  std::unique_ptr<Event> begin_;
  std::shared_ptr<NcclWatchdog> watchdog_;      // of all groups of a rank
  std::vector<std::unique_ptr<Event>> events_;  ///< all that were made: they live as long as the communicator
  std::vector<Event*> free_events_;
  std::map<int64_t, Enqueued> begun_;  ///< by ticket
  std::deque<Section> sections_{1};    ///< oldest first; the last one is open
  int64_t tickets_ = 0;
  DeviceMemory scratch_[2];
};

}  // namespace strand
