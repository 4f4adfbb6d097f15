#pragma once
// What calls of NCCL become: operations of a stream, each of which waits until the other ranks have come to theirs.
// Calls that do not belong together are reported. Sums are taken in rank order; real NCCL has orders of its own.
#include <nccl.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "gpu_emulation/nccl_world.h"

struct ncclComm {
  ncclComm(const std::string& name, int ranks, int rank) : world(name, ranks, rank) {}
  gpu_emulation::World world;
  uint64_t collectives = 0;
  uint64_t sent[gpu_emulation::most_ranks] = {}, received[gpu_emulation::most_ranks] = {};
  std::atomic<bool> failed{false};   ///< an asynchronous error: no operation from then on ends by itself
  std::atomic<bool> aborted{false};  ///< what waits is over, with whatever is there
};

namespace gpu_emulation {

/// Bytes of an element.
size_t width(ncclDataType_t type);

enum class Collective : uint8_t { all_reduce, reduce_scatter, all_gather, broadcast };

struct CollectiveCall {
  Collective kind;
  const char* name;
  const void* input;
  void* output;
  size_t count;  ///< as NCCL's argument
  ncclDataType_t type;
  ncclRedOp_t operation;
  int root;

  size_t input_count(int ranks, int rank) const {
    if (kind == Collective::broadcast && rank != root) return 0;
    return kind == Collective::reduce_scatter ? count * static_cast<size_t>(ranks) : count;
  }
  size_t output_count(int ranks) const {
    return kind == Collective::all_gather ? count * static_cast<size_t>(ranks) : count;
  }
  CallForm form() const;
};

/// A send or a receive; those of one group are one operation.
struct Transfer {
  bool sends;
  void* data;
  size_t bytes;
  int peer;
  uint64_t number;  ///< of the pair and direction, from 1
  bool written = false, done = false;
};

ncclResult_t enqueue_collective(ncclComm* comm, cudaStream_t stream, const CollectiveCall& call);

/// Within a group the transfer waits for the group's end.
ncclResult_t enqueue_transfer(ncclComm* comm, cudaStream_t stream, const Transfer& transfer);

// ncclGroupStart and ncclGroupEnd, of this thread.
void begin_group();
void end_group();
bool in_group();

}  // namespace gpu_emulation
