#include "gpu_emulation/nccl_operations.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "gpu_emulation/checker.h"
#include "gpu_emulation/device_memory.h"
#include "gpu_emulation/reports.h"
#include "gpu_emulation/streams.h"

namespace gpu_emulation {

size_t width(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
      return 4;
    default:
      return 8;
  }
}

CallForm CollectiveCall::form() const {
  CallForm f{};
  std::snprintf(f.name, sizeof f.name, "%s", name);
  f.count = count;
  f.type = type;
  f.operation = operation;
  f.root = root;
  return f;
}

namespace {
double load(const void* from, ncclDataType_t type, size_t i) {
  switch (type) {
    case ncclFloat32:
      return static_cast<const float*>(from)[i];
    case ncclFloat64:
      return static_cast<const double*>(from)[i];
    case ncclInt32:
      return static_cast<const int32_t*>(from)[i];
    case ncclBfloat16:
      return std::bit_cast<float>(static_cast<uint32_t>(static_cast<const uint16_t*>(from)[i]) << 16);
    default:
      report("nccl-arguments", "a reduction of a type that the emulation does not have");
      return 0;
  }
}

void store(void* to, ncclDataType_t type, size_t i, double value) {
  switch (type) {
    case ncclFloat32:
      static_cast<float*>(to)[i] = static_cast<float>(value);
      break;
    case ncclFloat64:
      static_cast<double*>(to)[i] = value;
      break;
    case ncclInt32:
      static_cast<int32_t*>(to)[i] = static_cast<int32_t>(value);
      break;
    case ncclBfloat16:
      static_cast<__nv_bfloat16*>(to)[i] = __float2bfloat16(static_cast<float>(value));
      break;
    default:
      break;
  }
}

/// Sums in the type itself, rank by rank.
double add(ncclDataType_t type, ncclRedOp_t operation, double a, double b) {
  if (operation == ncclMax) return std::max(a, b);
  const double sum = a + b;
  return type == ncclFloat32 ? static_cast<double>(static_cast<float>(sum)) : sum;
}

bool usable(const void* address, size_t bytes, Access access, const char* what) {
  if (!require_device_range(address, bytes, what)) return false;
  check_range(address, bytes, access, what);
  return true;
}

/// Everybody has read what the mailbox held.
bool is_free(const Mailbox& box, uint64_t held, int ranks) {
  for (int p = 0; p < ranks; ++p)
    if (box.read[p] < held) return false;
  return true;
}

void compare_forms(World& world, const CollectiveCall& call, uint64_t number) {
  const CallForm mine = call.form();
  for (int p = 0; p < world.ranks(); ++p) {
    const CallForm& theirs = world.collective(p).form;
    if (theirs == mine) continue;
    report("nccl-mismatch", "collective %llu: rank %d calls %s of %llu, rank %d %s of %llu",
           static_cast<unsigned long long>(number), world.rank(), mine.name,
           static_cast<unsigned long long>(mine.count), p, theirs.name, static_cast<unsigned long long>(theirs.count));
  }
}

void compute(World& world, const CollectiveCall& call) {
  const size_t bytes = call.count * width(call.type);
  const auto input_of = [&](int p) { return world.collective_data(p); };
  switch (call.kind) {
    case Collective::all_gather:
      for (int p = 0; p < world.ranks(); ++p)
        std::memcpy(static_cast<char*>(call.output) + static_cast<size_t>(p) * bytes, input_of(p), bytes);
      return;
    case Collective::broadcast:
      std::memcpy(call.output, input_of(call.root), bytes);
      return;
    default:
      break;
  }
  const size_t first = call.kind == Collective::reduce_scatter ? call.count * static_cast<size_t>(world.rank()) : 0;
  for (size_t i = 0; i < call.count; ++i) {
    double sum = load(input_of(0), call.type, first + i);
    for (int p = 1; p < world.ranks(); ++p)
      sum = add(call.type, call.operation, sum, load(input_of(p), call.type, first + i));
    store(call.output, call.type, i, sum);
  }
}

/// One rank's side of a collective, which may have to wait twice: for its mailbox, and for the others.
struct CollectiveRun {
  ncclComm* comm;
  CollectiveCall call;
  uint64_t number;  ///< from 1
  bool fails;
  bool written = false;

  bool write() {
    World& world = comm->world;
    Mailbox& mine = world.collective(world.rank());
    if (!is_free(mine, number - 1, world.ranks())) return false;
    const size_t bytes = call.input_count(world.ranks(), world.rank()) * width(call.type);
    if (bytes > mailbox_bytes)
      report("nccl-arguments", "%s of %zu bytes is more than the emulation has", call.name, bytes);
    if (bytes > 0 && bytes <= mailbox_bytes && usable(call.input, bytes, Access::read, call.name))
      std::memcpy(world.collective_data(world.rank()), call.input, bytes);
    mine.form = call.form();
    mine.written = number;
    return true;
  }

  Progress run() {
    World& world = comm->world;
    if (comm->aborted) return Progress::done;
    if (fails) comm->failed = true;
    if (comm->failed) return Progress::waits_for_process;
    if (!written) written = write();
    if (!written) return Progress::waits_for_process;
    for (int p = 0; p < world.ranks(); ++p)
      if (world.collective(p).written < number) return Progress::waits_for_process;
    compare_forms(world, call, number);
    if (usable(call.output, call.output_count(world.ranks()) * width(call.type), Access::write, call.name))
      compute(world, call);
    for (int p = 0; p < world.ranks(); ++p) world.collective(p).read[world.rank()] = number;
    return Progress::done;
  }
};

struct TransferRun {
  ncclComm* comm;
  std::vector<Transfer> transfers;
  bool fails;

  /// A send is done when it was received: NCCL may have no buffer for it.
  void send(Transfer& t) {
    World& world = comm->world;
    Mailbox& box = world.pair(world.rank(), t.peer);
    if (!t.written && box.read[t.peer] == t.number - 1) {
      if (t.bytes > mailbox_bytes)
        report("nccl-arguments", "ncclSend of %zu bytes is more than the emulation has", t.bytes);
      if (t.bytes > 0 && t.bytes <= mailbox_bytes && usable(t.data, t.bytes, Access::read, "ncclSend"))
        std::memcpy(world.pair_data(world.rank(), t.peer), t.data, t.bytes);
      box.form.count = t.bytes;
      box.written = t.number;
      t.written = true;
    }
    t.done = t.written && box.read[t.peer] >= t.number;
  }

  void receive(Transfer& t) {
    World& world = comm->world;
    Mailbox& box = world.pair(t.peer, world.rank());
    if (box.written < t.number) return;
    if (box.form.count != t.bytes)
      report("nccl-mismatch", "rank %d receives %zu bytes from rank %d, which sent %llu", world.rank(), t.bytes, t.peer,
             static_cast<unsigned long long>(box.form.count));
    const size_t bytes = std::min<size_t>(t.bytes, box.form.count);
    if (bytes > 0 && usable(t.data, t.bytes, Access::write, "ncclRecv"))
      std::memcpy(t.data, world.pair_data(t.peer, world.rank()), bytes);
    box.read[world.rank()] = t.number;
    t.done = true;
  }

  Progress run() {
    if (comm->aborted) return Progress::done;
    if (fails) comm->failed = true;
    if (comm->failed) return Progress::waits_for_process;
    bool all_done = true;
    for (Transfer& t : transfers) {
      if (!t.done && t.sends) send(t);
      if (!t.done && !t.sends) receive(t);
      all_done &= t.done;
    }
    return all_done ? Progress::done : Progress::waits_for_process;
  }
};

/// Between ncclGroupStart and ncclGroupEnd.
struct Group {
  struct Entry {
    ncclComm* comm;
    cudaStream_t stream;
    std::vector<Transfer> transfers;
  };
  int depth = 0;
  std::vector<Entry> entries;
};
thread_local Group group;

void enqueue_transfers(ncclComm* comm, cudaStream_t stream, std::vector<Transfer> transfers) {
  constexpr const char* name = "ncclSend and ncclRecv";
  auto run = std::make_shared<TransferRun>(TransferRun{comm, std::move(transfers), ordered_nccl_fault(name)});
  enqueue(stream, {.name = name, .run = [run] { return run->run(); }});
}
}  // namespace

ncclResult_t enqueue_transfer(ncclComm* comm, cudaStream_t stream, const Transfer& t) {
  if (t.peer < 0 || t.peer >= comm->world.ranks()) return ncclInvalidArgument;
  if (group.depth == 0) {
    enqueue_transfers(comm, stream, {t});
    return ncclSuccess;
  }
  for (Group::Entry& entry : group.entries) {
    if (entry.comm != comm || entry.stream != stream) continue;
    entry.transfers.push_back(t);
    return ncclSuccess;
  }
  group.entries.push_back({comm, stream, {t}});
  return ncclSuccess;
}

ncclResult_t enqueue_collective(ncclComm* comm, cudaStream_t stream, const CollectiveCall& call) {
  const std::lock_guard lock(api_mutex());
  auto run =
      std::make_shared<CollectiveRun>(CollectiveRun{comm, call, ++comm->collectives, ordered_nccl_fault(call.name)});
  enqueue(stream, {.name = call.name, .run = [run] { return run->run(); }});
  return ncclSuccess;
}

void begin_group() {
  ++group.depth;
}

void end_group() {
  if (--group.depth > 0) return;
  const std::lock_guard lock(api_mutex());
  for (Group::Entry& entry : group.entries) enqueue_transfers(entry.comm, entry.stream, std::move(entry.transfers));
  group.entries.clear();
}

bool in_group() {
  return group.depth > 0;
}

}  // namespace gpu_emulation
