#pragma once
// One collective on host memory as a sequence of non-blocking MPI calls and, between them, sums in rank order: the
// algorithms that communicator.h states. It is prepared by the training thread and advanced by the communication
// thread, which no call here keeps for long.
#include <mpi.h>

#include <array>
#include <cstddef>
#include <memory>
#include <vector>

#include "core/tensor.h"
#include "parallel/communicator.h"

namespace strand {

/// Collectives of different lanes are in progress at the same time.
enum class Lane : uint8_t { foreground, background };
constexpr int lane_count = 2;

/// A group of ranks, with communicators of its own for each lane.
struct MpiGroup {
  const char* name = "";   ///< "experts group"
  int index = 0;           ///< among the groups of a grid
  int rank = 0;            ///< this process in it
  std::vector<int> ranks;  ///< its members' ranks in the world
  std::array<MPI_Comm, lane_count> comm{MPI_COMM_NULL, MPI_COMM_NULL};

  int size() const { return static_cast<int>(ranks.size()); }
};

/// Memory that grows to a high-water mark and keeps nothing when it does.
class GrowingMemory {
 public:
  std::byte* at_least(size_t bytes);

 private:
  std::unique_ptr<std::byte[]> memory_;
  size_t bytes_ = 0;
};

/// What a lane's collectives, one at a time, need besides the caller's memory.
struct LaneMemory {
  GrowingMemory sent, received;
};

/// What to do. Tensors stay the caller's until the collective is complete; rows are read by prepare() alone.
struct MpiOrder {
  enum class Op : uint8_t { all_reduce, reduce_scatter, all_gather, all_to_all, host_gather };
  Op op = Op::all_gather;
  Tensor x;                        ///< but for all_to_all; of host_gather, what this rank has
  Tensor all;                      ///< host_gather: of all ranks
  DType travel = DType::f32;       ///< reduce_scatter
  const RankRows* send = nullptr;  ///< all_to_all
  const RankRows* receive = nullptr;
};

class MpiCollective {
 public:
  /// Throws Error for what MPI cannot count: more than 2³¹ − 1 elements, or rows. Allocates nothing once vectors have
  /// grown to the group's size.
  void prepare(const MpiOrder& order, const MpiGroup& group, Lane lane);
  void start(LaneMemory& memory);
  enum class Advance : uint8_t { waits, moved, complete };
  /// Tests what is in progress, or computes for some tens of microseconds.
  Advance advance(LaneMemory& memory);

 private:
  enum class Stage : uint8_t { round, exchange, sum, gather, complete };
  using Sum = void (*)(void* out, const void* parts, int64_t stride, int ranks, int64_t begin, int64_t end);

  void prepare_parts();
  void prepare_rows(const RankRows& send, const RankRows& receive);
  void round_slice(LaneMemory& memory);
  void begin_exchange(LaneMemory& memory);
  void begin_gather();
  void begin_all_to_all();
  bool sum_slice(LaneMemory& memory);
  void after_exchange();
  void after_sum();
  bool arrived();
  int64_t own_begin() const { return small_ ? 0 : displacement_[static_cast<size_t>(group_->rank)]; }
  int64_t own_count() const { return small_ ? x_.elements() : count_[static_cast<size_t>(group_->rank)]; }

  MpiOrder::Op op_ = MpiOrder::Op::all_gather;
  const MpiGroup* group_ = nullptr;
  MPI_Comm comm_ = MPI_COMM_NULL;
  Tensor x_, all_;
  DType travel_ = DType::f32;
  bool small_ = false;
  Sum sum_ = nullptr;
  Stage stage_ = Stage::complete;
  int64_t done_ = 0;  ///< elements of the stage's computation
  MPI_Request request_ = MPI_REQUEST_NULL;
  // By rank. Of a reduction: its parts of x, and where each rank's copy of the own part arrives. Of rows: sent,
  // received.
  std::vector<int> count_, displacement_, arriving_count_, arriving_displacement_;
  Tensor send_, receive_;
  int64_t row_bytes_ = 0;
};

}  // namespace strand
