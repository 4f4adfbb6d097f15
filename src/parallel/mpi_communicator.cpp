#include "parallel/mpi_communicator.h"

#include <numeric>

#include "core/clock.h"

namespace strand {

namespace {
using Op = MpiOrder::Op;

Tensor bytes_of(const void* data, size_t count) {
  return {const_cast<void*>(data), DType::u8, {static_cast<int64_t>(count)}};
}
}  // namespace

int64_t MpiCommunicator::begin(const MpiOrder& order, Traffic kind) {
  return transport_.begin(order, group_, kind, progress_ ? Place::of(*progress_) : Place{});
}

int64_t MpiCommunicator::start_all_reduce_sum(Traffic kind, const Tensor& x) {
  return begin({.op = Op::all_reduce, .x = x}, kind);
}

int64_t MpiCommunicator::start_reduce_scatter_sum(Traffic kind, const Tensor& x, DType travel) {
  return begin({.op = Op::reduce_scatter, .x = x, .travel = travel}, kind);
}

int64_t MpiCommunicator::start_all_gather(Traffic kind, const Tensor& x) {
  return begin({.op = Op::all_gather, .x = x}, kind);
}

int64_t MpiCommunicator::start_all_to_all(Traffic kind, const RankRows& send, const RankRows& receive) {
  return begin({.op = Op::all_to_all, .send = &send, .receive = &receive}, kind);
}

Communicator::Times MpiCommunicator::finish(int64_t ticket) {
  const double begin = now();
  const double busy = transport_.finish(ticket);
  return {.busy = busy, .exposed = now() - begin};
}

double MpiControl::gather_bytes(const void* mine, size_t bytes, void* all) {
  const double begin = now();
  const MpiOrder order{
      .op = Op::host_gather, .x = bytes_of(mine, bytes), .all = bytes_of(all, bytes * static_cast<size_t>(size()))};
  transport_.finish(transport_.begin(order, group_, Traffic::control, progress_ ? Place::of(*progress_) : Place{}));
  return now() - begin;
}

void MpiCommunicator::warm_up() {
  const auto ranks = static_cast<size_t>(size());
  std::vector<float> numbers(ranks), more(ranks), large(Communicator::small_bytes);
  const auto vector = [](std::vector<float>& v) {
    return Tensor{v.data(), DType::f32, {static_cast<int64_t>(v.size())}};
  };
  RankRows send{vector(numbers), std::vector<int64_t>(ranks), std::vector<int64_t>(ranks, 1)};
  std::iota(send.first.begin(), send.first.end(), 0);
  const RankRows receive{vector(more), send.first, send.count};
  for (const Traffic kind : {Traffic::control, Traffic::gradients}) {
    finish(start_all_reduce_sum(kind, vector(numbers)));
    finish(start_all_reduce_sum(kind, vector(large)));
    finish(start_reduce_scatter_sum(kind, vector(numbers), DType::bf16));
    finish(start_all_gather(kind, vector(numbers)));
    finish(start_all_to_all(kind, send, receive));
  }
}

}  // namespace strand
