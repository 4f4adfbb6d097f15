#pragma once
// Communicator over NCCL on the memory of GPUs. Collectives are enqueued on the communication stream, after what the
// compute stream holds when they begin; to wait for one is to hold the compute stream, and the host goes on. Host
// numbers go over the communicator that was there before. All groups and all kinds of traffic share that one stream, as
// NCCL's kernels of several communicators may wait for each other's place on the GPU when they run side by side.
#include <nccl.h>

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
  /// Collective over the ranks of `host`.
  NcclCommunicator(CudaDevice& device, std::unique_ptr<Communicator> host, SumOrder order,
                   std::shared_ptr<NcclWatchdog> watchdog);
  ~NcclCommunicator() override;

  /// One small collective of each kind, so that connections are there before they are timed. Not booked.
  void warm_up();

  void all_gather_host(const void* mine, size_t bytes, void* all) override;

 protected:
  int64_t start_all_reduce_sum(Traffic kind, const Tensor& x) override;
  int64_t start_reduce_scatter_sum(Traffic kind, const Tensor& x, DType travel) override;
  int64_t start_all_gather(Traffic kind, const Tensor& x) override;
  int64_t start_all_to_all(Traffic kind, const RankRows& send, const RankRows& receive) override;
  /// Holds the compute stream. 0 seconds: the end is not known yet.
  double finish(int64_t ticket) override;

 private:
  template <typename Enqueue>
  int64_t enqueued(const char* what, Traffic kind, const Enqueue& enqueue);
  /// Part p of `send` goes to rank p; what rank p sends arrives as part p of `receive`. Equal parts, one a rank.
  void exchange_parts(const Tensor& send, const Tensor& receive);
  void reduce_scatter_in_order(const Tensor& x, DType travel);
  void all_reduce_in_order(const Tensor& x);
  /// Memory of the collective that runs; the next one on the stream uses the same.
  Tensor scratch(size_t slot, DType type, const Shape& shape);
  void check(ncclResult_t result, const char* what) const;

  CudaDevice& device_;
  std::unique_ptr<Communicator> host_;
  SumOrder order_;
  cudaStream_t stream_;
  ncclComm_t comm_ = nullptr;
  std::unique_ptr<Event> begin_;
  std::shared_ptr<NcclWatchdog> watchdog_;      // of all groups of a rank
  std::vector<std::unique_ptr<Event>> events_;  ///< all that were made: they live as long as the communicator
  std::vector<Event*> free_events_;
  std::map<int64_t, Event*> ends_;  ///< by ticket
  int64_t tickets_ = 0;
  DeviceMemory scratch_[2];
};

}  // namespace strand
