#pragma once
// Communicator over MPI on host memory, and the control channel over MPI.
#include "parallel/communicator.h"
#include "parallel/control_channel.h"
#include "parallel/mpi_transport.h"

namespace strand {

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(MpiTransport& transport, const MpiGroup& group)
      : Communicator(group.rank, group.size()), transport_(transport), group_(group) {}

  /// Where messages say that this rank is, from now on.
  void follow(const Progress& progress) { progress_ = &progress; }
  /// One small collective of each kind in each lane, so that connections are there before they are timed. Not booked.
  void warm_up();

 protected:
  int64_t start_all_reduce_sum(Traffic kind, const Tensor& x) override;
  int64_t start_reduce_scatter_sum(Traffic kind, const Tensor& x, DType travel) override;
  int64_t start_all_gather(Traffic kind, const Tensor& x) override;
  int64_t start_all_to_all(Traffic kind, const RankRows& send, const RankRows& receive) override;
  Times finish(int64_t ticket) override;

 private:
  int64_t begin(const MpiOrder& order, Traffic kind);

  MpiTransport& transport_;
  const MpiGroup& group_;
  const Progress* progress_ = nullptr;
};

class MpiControl final : public ControlChannel {
 public:
  MpiControl(MpiTransport& transport, const MpiGroup& group)
      : ControlChannel(group.rank, group.size()), transport_(transport), group_(group) {}

  /// Where messages say that this rank is, from now on.
  void follow(const Progress& progress) { progress_ = &progress; }

 private:
  double gather_bytes(const void* mine, size_t bytes, void* all) override;

  MpiTransport& transport_;
  const MpiGroup& group_;
  const Progress* progress_ = nullptr;
};

}  // namespace strand
