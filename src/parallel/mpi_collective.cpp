#include "parallel/mpi_collective.h"

#include <algorithm>
#include <limits>
#include <type_traits>

#include "parallel/mpi_error.h"

namespace strand {

namespace {
using Op = MpiOrder::Op;

constexpr int64_t slice = Communicator::slice_elements;

MPI_Datatype mpi_type(DType type) {
  switch (type) {
    case DType::f32:
      return MPI_FLOAT;
    case DType::f64:
      return MPI_DOUBLE;
    case DType::i32:
      return MPI_INT32_T;
    case DType::i64:
      return MPI_INT64_T;
    case DType::bf16:
    case DType::u16:
      return MPI_UINT16_T;
    case DType::u8:
      break;
  }
  return MPI_BYTE;
}

int mpi_count(int64_t count, const char* of, const Tensor& x) {
  require(count <= std::numeric_limits<int>::max(), "a collective of {} {} ({}): MPI counts no further than 2147483647",
          count, of, x.to_string());
  return static_cast<int>(count);
}

std::byte* element(const Tensor& x, int64_t index) {
  return static_cast<std::byte*>(x.data) + static_cast<size_t>(index) * size_of(x.dtype);
}

template <typename T, typename Travel>
T widened(Travel value) {
  if constexpr (std::is_same_v<Travel, bf16>)
    return static_cast<T>(static_cast<float>(value));
  else
    return value;
}

/// out[i] = ((part 0 + part 1) + part 2) + ..., in blocks that stay in the first-level cache.
template <typename T, typename Travel>
void sum_in_rank_order(void* to, const void* from, int64_t stride, int ranks, int64_t begin, int64_t end) {
  constexpr int64_t block = Communicator::block_elements;
  T* out = static_cast<T*>(to);
  const Travel* parts = static_cast<const Travel*>(from);
  for (int64_t b = begin; b < end; b += block) {
    const int64_t e = std::min(b + block, end);
#pragma omp simd
    for (int64_t i = b; i < e; ++i) out[i] = widened<T>(parts[i]);
    for (int p = 1; p < ranks; ++p) {
      const Travel* part = parts + p * stride;
#pragma omp simd
      for (int64_t i = b; i < e; ++i) out[i] += widened<T>(part[i]);
    }
  }
}

template <typename T>
void round_to_bf16(const void* from, bf16* to, int64_t begin, int64_t end) {
  const T* in = static_cast<const T*>(from);
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) to[i] = bf16(static_cast<float>(in[i]));
}
}  // namespace

std::byte* GrowingMemory::at_least(size_t bytes) {
  if (bytes > bytes_) {
    memory_.reset();  // first, so that the old and the new never exist together
    memory_ = std::make_unique_for_overwrite<std::byte[]>(bytes);
    bytes_ = bytes;
  }
  return memory_.get();
}

// ---- preparation ----------------------------------------------------------------------------------------------------

void MpiCollective::prepare(const MpiOrder& order, const MpiGroup& group, Lane lane) {
  op_ = order.op;
  group_ = &group;
  comm_ = group.comm[static_cast<size_t>(lane)];
  x_ = order.x;
  all_ = order.all;
  travel_ = op_ == Op::reduce_scatter ? order.travel : x_.dtype;
  small_ = op_ == Op::all_reduce && x_.bytes() <= Communicator::small_bytes;
  done_ = 0;
  stage_ = Stage::exchange;
  if (op_ == Op::all_to_all) return prepare_rows(*order.send, *order.receive);
  mpi_count(x_.elements(), "elements", x_);
  if (op_ == Op::host_gather || op_ == Op::all_gather) return;
  if (travel_ != x_.dtype) stage_ = Stage::round;
  const bool f64 = x_.dtype == DType::f64;
  if (travel_ == DType::bf16)
    sum_ = f64 ? sum_in_rank_order<double, bf16> : sum_in_rank_order<float, bf16>;
  else
    sum_ = f64 ? sum_in_rank_order<double, double> : sum_in_rank_order<float, float>;
  prepare_parts();
}

/// Parts of x differ by one element at most.
void MpiCollective::prepare_parts() {
  const int n = group_->size();
  const auto ranks = static_cast<size_t>(n);
  for (std::vector<int>* v : {&count_, &displacement_, &arriving_count_, &arriving_displacement_}) v->resize(ranks);
  const auto begin_of = [&](int64_t p) { return p * x_.elements() / n; };
  const auto own = static_cast<int>(begin_of(group_->rank + 1) - begin_of(group_->rank));
  for (int p = 0; p < n; ++p) {
    const auto i = static_cast<size_t>(p);
    displacement_[i] = static_cast<int>(begin_of(p));
    count_[i] = static_cast<int>(begin_of(p + 1) - begin_of(p));
    arriving_count_[i] = own;
    arriving_displacement_[i] = p * own;
  }
}

void MpiCollective::prepare_rows(const RankRows& send, const RankRows& receive) {
  const auto take = [](const RankRows& rows, std::vector<int>& count, std::vector<int>& first) {
    mpi_count(rows.tensor.dim(0), "rows", rows.tensor);
    count.assign(rows.count.begin(), rows.count.end());
    first.assign(rows.first.begin(), rows.first.end());
  };
  take(send, count_, displacement_);
  take(receive, arriving_count_, arriving_displacement_);
  send_ = send.tensor;
  receive_ = receive.tensor;
  const Tensor& some = send_.dim(0) > 0 ? send_ : receive_;  // rows of both have the same size
  row_bytes_ = some.dim(0) > 0 ? static_cast<int64_t>(some.bytes()) / some.dim(0) : 0;
  mpi_count(row_bytes_, "bytes a row", some);
}

// ---- progress -------------------------------------------------------------------------------------------------------

void MpiCollective::start(LaneMemory& memory) {
  if (stage_ == Stage::exchange) begin_exchange(memory);
}

MpiCollective::Advance MpiCollective::advance(LaneMemory& memory) {
  switch (stage_) {
    case Stage::round:
      round_slice(memory);
      break;
    case Stage::exchange:
      if (!arrived()) return Advance::waits;
      after_exchange();
      break;
    case Stage::sum:
      if (sum_slice(memory)) after_sum();
      break;
    case Stage::gather:
      if (!arrived()) return Advance::waits;
      stage_ = Stage::complete;
      break;
    case Stage::complete:
      break;
  }
  return stage_ == Stage::complete ? Advance::complete : Advance::moved;
}

void MpiCollective::round_slice(LaneMemory& memory) {
  const int64_t elements = x_.elements(), end = std::min(done_ + slice, elements);
  auto* to = reinterpret_cast<bf16*>(memory.sent.at_least(static_cast<size_t>(elements) * sizeof(bf16)));
  if (x_.dtype == DType::f64)
    round_to_bf16<double>(x_.data, to, done_, end);
  else
    round_to_bf16<float>(x_.data, to, done_, end);
  done_ = end;
  if (done_ < elements) return;
  done_ = 0;
  begin_exchange(memory);
}

void MpiCollective::begin_exchange(LaneMemory& memory) {
  stage_ = Stage::exchange;
  const int n = group_->size();
  const auto elements = static_cast<int>(x_.elements());
  const MPI_Datatype type = mpi_type(travel_);
  if (op_ == Op::all_to_all) return begin_all_to_all();
  if (op_ == Op::host_gather) {
    check_mpi(MPI_Iallgather(x_.data, elements, type, all_.data, elements, type, comm_, &request_), "MPI_Iallgather");
    return;
  }
  if (op_ == Op::all_gather) {
    check_mpi(MPI_Iallgather(MPI_IN_PLACE, 0, type, x_.data, elements / n, type, comm_, &request_), "MPI_Iallgather");
    return;
  }
  void* received = memory.received.at_least(static_cast<size_t>(n * own_count()) * size_of(travel_));
  if (small_) {
    check_mpi(MPI_Iallgather(x_.data, elements, type, received, elements, type, comm_, &request_), "MPI_Iallgather");
    return;
  }
  const void* sent = travel_ == x_.dtype ? x_.data : memory.sent.at_least(0);
  check_mpi(MPI_Ialltoallv(sent, count_.data(), displacement_.data(), type, received, arriving_count_.data(),
                           arriving_displacement_.data(), type, comm_, &request_),
            "MPI_Ialltoallv");
}

/// Rows are counted as rows, whatever their bytes.
void MpiCollective::begin_all_to_all() {
  MPI_Datatype row = MPI_DATATYPE_NULL;
  check_mpi(MPI_Type_contiguous(static_cast<int>(row_bytes_), MPI_BYTE, &row), "MPI_Type_contiguous");
  check_mpi(MPI_Type_commit(&row), "MPI_Type_commit");
  const int code = MPI_Ialltoallv(send_.data, count_.data(), displacement_.data(), row, receive_.data,
                                  arriving_count_.data(), arriving_displacement_.data(), row, comm_, &request_);
  MPI_Type_free(&row);  // lives on until the exchange is complete
  check_mpi(code, "MPI_Ialltoallv");
}

void MpiCollective::begin_gather() {
  stage_ = Stage::gather;
  const MPI_Datatype type = mpi_type(x_.dtype);
  check_mpi(
      MPI_Iallgatherv(MPI_IN_PLACE, 0, type, x_.data, count_.data(), displacement_.data(), type, comm_, &request_),
      "MPI_Iallgatherv");
}

void MpiCollective::after_exchange() {
  stage_ = op_ == Op::all_reduce || op_ == Op::reduce_scatter ? Stage::sum : Stage::complete;
}

void MpiCollective::after_sum() {
  if (op_ == Op::all_reduce && !small_)
    begin_gather();
  else
    stage_ = Stage::complete;
}

/// True when the sum is complete.
bool MpiCollective::sum_slice(LaneMemory& memory) {
  const int64_t count = own_count(), end = std::min(done_ + slice, count);
  sum_(element(x_, own_begin()), memory.received.at_least(0), count, group_->size(), done_, end);
  done_ = end;
  return done_ == count;
}

bool MpiCollective::arrived() {
  int flag = 0;
  check_mpi(MPI_Test(&request_, &flag, MPI_STATUS_IGNORE), "MPI_Test");
  return flag != 0;
}

}  // namespace strand
