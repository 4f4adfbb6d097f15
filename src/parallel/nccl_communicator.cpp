#include "parallel/nccl_communicator.h"

#include <cstring>
#include <exception>
#include <numeric>

#include "core/error.h"
#include "kernels/cuda/errors.h"
#include "kernels/cuda/rank_sum.h"

namespace strand {

namespace {
ncclDataType_t nccl_type(DType type) {
  switch (type) {
    case DType::f32:
      return ncclFloat32;
    case DType::f64:
      return ncclFloat64;
    case DType::bf16:
      return ncclBfloat16;
    case DType::i32:
      return ncclInt32;
    case DType::i64:
      return ncclInt64;
    default:
      return ncclUint8;
  }
}

/// Part r of x, which has `parts` equal ones.
Tensor part_of(const Tensor& x, int r, int parts) {
  const int64_t n = x.elements() / parts;
  const Tensor flat = x.view({x.elements()});
  return flat.rows(r * n, (r + 1) * n);
}

/// The id that rank 0 of the group has made. All ranks of the run call it together.
ncclUniqueId shared_id(const ProcessGrid::Group& group, ControlChannel& hosts) {
  ncclUniqueId id{};
  if (group.rank == 0) {
    const ncclResult_t result = ncclGetUniqueId(&id);
    require(result == ncclSuccess, "NCCL: ncclGetUniqueId: {}", ncclGetErrorString(result));
  }
  const std::vector<std::string> ids = hosts.all_gather(std::string(id.internal, sizeof id.internal));
  std::memcpy(id.internal, ids.at(static_cast<size_t>(group.first)).data(), sizeof id.internal);
  return id;
}
}  // namespace

NcclCommunicator::NcclCommunicator(CudaDevice& device, const ProcessGrid::Group& group, ControlChannel& hosts,
                                   SumOrder order, std::shared_ptr<NcclWatchdog> watchdog)
    : Communicator(group.rank, group.size),
      device_(device),
      order_(order),
      stream_(device.stream(Stream::communication)),
      begin_(device.make_event()),
      watchdog_(std::move(watchdog)) {
  check(ncclCommInitRank(&comm_, size(), shared_id(group, hosts), rank()), "ncclCommInitRank");
  watchdog_->add(comm_);
}

NcclCommunicator::~NcclCommunicator() {
  for (const auto& event : events_) watchdog_->forget(*event);
  if (!watchdog_->remove(comm_)) return;
  // Where an error ends this rank, others may not come to what was enqueued.
  if (std::uncaught_exceptions() > 0) {
    ncclCommAbort(comm_);
    return;
  }
  cudaStreamSynchronize(stream_);
  ncclCommDestroy(comm_);
}

void NcclCommunicator::check(ncclResult_t result, const char* what) const {
  require(result == ncclSuccess, "NCCL: {}, rank {} of {}: {}", what, rank(), size(), ncclGetErrorString(result));
}

Event* NcclCommunicator::take_event() {
  if (free_events_.empty()) {
    events_.push_back(device_.make_timed_event());
    free_events_.push_back(events_.back().get());
  }
  Event* const event = free_events_.back();
  free_events_.pop_back();
  return event;
}

/// Enqueues a collective between the events of its begin and its end. Errors of what is under way are not looked for
/// here: the watchdog does that, and it alone ends the run by them and says where it was.
template <typename Enqueue>
int64_t NcclCommunicator::enqueued(Traffic kind, const Enqueue& enqueue) {
  begin_->record(Stream::compute);
  begin_->hold(Stream::communication);
  Enqueued collective{.kind = kind, .start = take_event(), .end = take_event()};
  collective.start->record(Stream::communication);
  enqueue();
  collective.end->record(Stream::communication);
  watchdog_->watch(*collective.end, kind);
  begun_.emplace(++tickets_, collective);
  return tickets_;
}

Communicator::Times NcclCommunicator::finish(int64_t ticket) {
  const auto found = begun_.find(ticket);
  require(found != begun_.end(), "NCCL: collective {} was waited for before", ticket);
  Enqueued collective = found->second;
  begun_.erase(found);
  collective.reached = take_event();
  collective.resumed = take_event();
  collective.reached->record(Stream::compute);
  collective.end->hold(Stream::compute);
  collective.resumed->record(Stream::compute);
  Section& section = sections_.back();
  section.waited_for.push_back(collective);
  constexpr size_t most_kept = 256;  // sections without an end, as of a long validation, do not gather events for ever
  while (section.waited_for.size() > most_kept && section.waited_for.front().resumed->happened()) read_oldest(section);
  return {};
}

void NcclCommunicator::read_oldest(Section& section) {
  const Enqueued& c = section.waited_for.front();
  TrafficCounts::Kind& times = section.times[c.kind];
  times.busy_seconds += c.end->seconds_since(*c.start);
  times.exposed_seconds += c.resumed->seconds_since(*c.reached);
  watchdog_->forget(*c.end);
  for (Event* event : {c.start, c.end, c.reached, c.resumed}) free_events_.push_back(event);
  section.waited_for.pop_front();
}

TrafficCounts NcclCommunicator::times_of_section() {
  require(sections_.size() > 1, "NCCL: the times of a section that has not ended");
  Section& section = sections_.front();
  while (!section.waited_for.empty()) {
    Event& resumed = *section.waited_for.front().resumed;
    if (!resumed.happened()) resumed.wait();
    read_oldest(section);
  }
  const TrafficCounts times = section.times;
  sections_.pop_front();
  return times;
}

Tensor NcclCommunicator::scratch(size_t slot, DType type, const Shape& shape) {
  const size_t bytes = static_cast<size_t>(shape.elements()) * size_of(type);
  if (bytes > scratch_[slot].bytes()) {
    gpu::check(cudaStreamSynchronize(stream_), "waiting for the GPU");  // somebody may still use what goes
    scratch_[slot] = DeviceMemory();
    scratch_[slot] = DeviceMemory(device_, MemoryKind::device, bytes);
  }
  return scratch_[slot].tensor(type, shape);
}

void NcclCommunicator::exchange_parts(const Tensor& send, const Tensor& receive) {
  check(ncclGroupStart(), "ncclGroupStart");
  for (int p = 0; p < size(); ++p) {
    const Tensor to = part_of(send, p, size()), from = part_of(receive, p, size());
    check(ncclSend(to.data, to.bytes(), ncclUint8, p, comm_, stream_), "ncclSend");
    check(ncclRecv(from.data, from.bytes(), ncclUint8, p, comm_, stream_), "ncclRecv");
  }
  check(ncclGroupEnd(), "ncclGroupEnd");
}

void NcclCommunicator::reduce_scatter_in_order(const Tensor& x, DType travel) {
  Tensor sent = x.view({x.elements()});
  if (travel != x.dtype) {
    sent = scratch(0, travel, {x.elements()});
    gpu::enqueue_round(x, sent, stream_);
  }
  const Tensor arrived = scratch(1, travel, {x.elements()});
  exchange_parts(sent, arrived);
  gpu::enqueue_rank_sum(arrived, part_of(x, rank(), size()), stream_);
}

void NcclCommunicator::all_reduce_in_order(const Tensor& x) {
  if (x.bytes() > small_bytes && x.elements() % size() == 0) {
    reduce_scatter_in_order(x, x.dtype);
    check(ncclAllGather(part_of(x, rank(), size()).data, x.data, static_cast<size_t>(x.elements() / size()),
                        nccl_type(x.dtype), comm_, stream_),
          "ncclAllGather");
    return;
  }
  const Tensor all = scratch(0, x.dtype, {size() * x.elements()});
  check(ncclAllGather(x.data, all.data, static_cast<size_t>(x.elements()), nccl_type(x.dtype), comm_, stream_),
        "ncclAllGather");
  gpu::enqueue_rank_sum(all, x, stream_);
}

int64_t NcclCommunicator::start_all_reduce_sum(Traffic kind, const Tensor& x) {
  return enqueued(kind, [&] {
    if (order_ == SumOrder::of_ranks) return all_reduce_in_order(x);
    check(ncclAllReduce(x.data, x.data, static_cast<size_t>(x.elements()), nccl_type(x.dtype), ncclSum, comm_, stream_),
          "ncclAllReduce");
  });
}

int64_t NcclCommunicator::start_reduce_scatter_sum(Traffic kind, const Tensor& x, DType travel) {
  return enqueued(kind, [&] {
    // NCCL would add in bf16, and round at every rank.
    if (order_ == SumOrder::of_ranks || travel != x.dtype) return reduce_scatter_in_order(x, travel);
    check(ncclReduceScatter(x.data, part_of(x, rank(), size()).data, static_cast<size_t>(x.elements() / size()),
                            nccl_type(x.dtype), ncclSum, comm_, stream_),
          "ncclReduceScatter");
  });
}

int64_t NcclCommunicator::start_all_gather(Traffic kind, const Tensor& x) {
  return enqueued(kind, [&] {
    const Tensor mine = part_of(x, rank(), size());
    check(ncclAllGather(mine.data, x.data, mine.bytes(), ncclUint8, comm_, stream_), "ncclAllGather");
  });
}

int64_t NcclCommunicator::start_all_to_all(Traffic kind, const RankRows& send, const RankRows& receive) {
  return enqueued(kind, [&] {
    check(ncclGroupStart(), "ncclGroupStart");
    for (size_t p = 0; p < static_cast<size_t>(size()); ++p) {
      const Tensor to = send.tensor.rows(send.first[p], send.first[p] + send.count[p]);
      const Tensor from = receive.tensor.rows(receive.first[p], receive.first[p] + receive.count[p]);
      const int peer = static_cast<int>(p);
      if (to.bytes() > 0) check(ncclSend(to.data, to.bytes(), ncclUint8, peer, comm_, stream_), "ncclSend");
      if (from.bytes() > 0) check(ncclRecv(from.data, from.bytes(), ncclUint8, peer, comm_, stream_), "ncclRecv");
    }
    check(ncclGroupEnd(), "ncclGroupEnd");
  });
}

void NcclCommunicator::warm_up() {
  const int64_t n = int64_t{64} * size();
  const DeviceMemory memory(device_, MemoryKind::device, 2 * static_cast<size_t>(n) * sizeof(float));
  const Tensor x = memory.tensor(DType::f32, {n}), y = memory.tensor(DType::f32, {n}, static_cast<size_t>(n) * 4);
  gpu::check(cudaMemsetAsync(memory.data(), 0, memory.bytes(), device_.stream(Stream::compute)), "clearing memory");
  RankRows send{x, std::vector<int64_t>(static_cast<size_t>(size())),
                std::vector<int64_t>(static_cast<size_t>(size()), 64)};
  for (size_t p = 0; p < send.first.size(); ++p) send.first[p] = 64 * static_cast<int64_t>(p);
  const RankRows receive{y, send.first, send.count};
  finish(start_all_reduce_sum(Traffic::control, x));
  finish(start_reduce_scatter_sum(Traffic::control, x, DType::f32));
  finish(start_reduce_scatter_sum(Traffic::control, x, DType::bf16));
  finish(start_all_gather(Traffic::control, x));
  finish(start_all_to_all(Traffic::control, send, receive));
  end_section();
  times_of_section();  // waits
}

void move_to_device(ProcessGrid& grid, Device& device, const DeviceGridOptions& options) {
  auto* cuda = dynamic_cast<CudaDevice*>(&device);
  if (cuda == nullptr || grid.ranks() == 1) return;
  const auto watchdog = std::make_shared<NcclWatchdog>(grid.rank(), grid.progress(), options);
  grid.replace_communicators([&](const ProcessGrid::Group& group) -> std::unique_ptr<Communicator> {
    if (group.size == 1) return std::make_unique<SelfCommunicator>();
    auto made = std::make_unique<NcclCommunicator>(*cuda, group, grid.control(), options.order, watchdog);
    made->warm_up();
    return made;
  });
}

}  // namespace strand
