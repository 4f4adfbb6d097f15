#include "parallel/communicator.h"

#include <numeric>

#include "core/error.h"

namespace strand {

namespace {
void require_summable(const Tensor& x) {
  require(x.dtype == DType::f32 || x.dtype == DType::f64, "a sum over ranks of {}, which is neither f32 nor f64",
          x.to_string());
}

int64_t rows_of(const RankRows& r) {
  return std::accumulate(r.count.begin(), r.count.end(), int64_t{0});
}

double row_bytes(const Tensor& x) {
  return x.dim(0) == 0 ? 0.0 : static_cast<double>(x.bytes()) / static_cast<double>(x.dim(0));
}

void check_rows(const char* what, const RankRows& r, int size) {
  require(r.first.size() == static_cast<size_t>(size) && r.count.size() == r.first.size(),
          "all-to-all: {} has rows for {} ranks of {}", what, r.count.size(), size);
  for (size_t p = 0; p < r.first.size(); ++p)
    require(r.first[p] >= 0 && r.count[p] >= 0 && r.first[p] + r.count[p] <= r.tensor.dim(0),
            "all-to-all: {} has {} rows from {} for rank {}, but the tensor is {}", what, r.count[p], r.first[p], p,
            r.tensor.to_string());
}
}  // namespace

Communicator::Work Communicator::begun(Traffic kind, int64_t ticket, int64_t messages, double payload, double sent) {
  TrafficCounts::Kind& k = traffic_[kind];
  ++k.calls;
  k.messages += messages;
  k.payload_bytes += payload;
  k.sent_bytes += sent;
  return {ticket, kind};
}

Communicator::Work Communicator::begin_all_reduce_sum(Traffic kind, const Tensor& x) {
  require_summable(x);
  if (size_ == 1) return {};
  const double others = size_ - 1, bytes = static_cast<double>(x.bytes());
  const bool small = x.bytes() <= small_bytes;
  return begun(kind, start_all_reduce_sum(kind, x), (small ? 1 : 2) * (size_ - 1), bytes,
               small ? others * bytes : 2 * others / size_ * bytes);
}

Communicator::Work Communicator::begin_reduce_scatter_sum(Traffic kind, const Tensor& x, DType travel) {
  require_summable(x);
  require(travel == x.dtype || travel == DType::bf16, "a reduction of {} cannot travel as {}", x.to_string(),
          to_string(travel));
  require(x.elements() % size_ == 0, "a reduction of {} over {} ranks: parts are not equal", x.to_string(), size_);
  if (size_ == 1) return {};
  const double bytes = static_cast<double>(x.elements()) * static_cast<double>(size_of(travel));
  return begun(kind, start_reduce_scatter_sum(kind, x, travel), size_ - 1, bytes, bytes * (size_ - 1) / size_);
}

Communicator::Work Communicator::begin_all_gather(Traffic kind, const Tensor& x) {
  require(x.elements() % size_ == 0, "a gather of {} over {} ranks: parts are not equal", x.to_string(), size_);
  if (size_ == 1) return {};
  const auto bytes = static_cast<double>(x.bytes());
  return begun(kind, start_all_gather(kind, x), size_ - 1, bytes, bytes * (size_ - 1) / size_);
}

Communicator::Work Communicator::begin_all_to_all(Traffic kind, OwnRows own, const RankRows& send,
                                                  const RankRows& receive) {
  require(size_ > 1, "an all-to-all in a group of one");
  check_rows("what is sent", send, size_);
  check_rows("what arrives", receive, size_);
  require(send.tensor.dtype == receive.tensor.dtype, "all-to-all: {} sent, {} received", send.tensor.to_string(),
          receive.tensor.to_string());
  const RankRows& payload = own == OwnRows::sent ? send : receive;
  const int64_t leaving = rows_of(send) - send.count[static_cast<size_t>(rank_)];
  return begun(kind, start_all_to_all(kind, send, receive), size_ - 1,
               static_cast<double>(rows_of(payload)) * row_bytes(payload.tensor),
               static_cast<double>(leaving) * row_bytes(send.tensor));
}

void Communicator::wait(Work& work) {
  if (!work) return;
  const Times times = finish(work.ticket);
  traffic_[work.kind].busy_seconds += times.busy;
  traffic_[work.kind].exposed_seconds += times.exposed;
  work = {};
}

void Communicator::all_reduce_sum(Traffic kind, const Tensor& x) {
  Work work = begin_all_reduce_sum(kind, x);
  wait(work);
}

void Communicator::all_to_all(Traffic kind, OwnRows own, const RankRows& send, const RankRows& receive) {
  Work work = begin_all_to_all(kind, own, send, receive);
  wait(work);
}

TrafficCounts Communicator::collect_times() {
  const TrafficCounts times = times_of_section();
  traffic_ += times;
  return times;
}

}  // namespace strand
