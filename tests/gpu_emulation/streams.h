#pragma once
// Deferred streams. An operation is enqueued and runs when something waits: a synchronisation runs operations of all
// streams of its device, in an order that the seed decides, until what it waits for is done. Whatever the program did
// not order by events can so be seen out of order.
//
// With the checker, every operation has a vector clock (one counter a stream), so that two accesses of memory are known
// to be ordered or not, whatever order they ran in.
#include <cuda_runtime.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "gpu_emulation/device_hooks.h"

namespace gpu_emulation {

/// Held by every function of the C interface, and given up while it waits for another process.
std::mutex& api_mutex();

using Clock = std::vector<uint32_t>;
void join(Clock& into, const Clock& other);

/// What happened to an operation when it had its turn.
enum class Progress : uint8_t {
  done,
  waits_for_event,    ///< of another stream
  waits_for_process,  ///< another rank has not come to its collective yet
};

/// What is enqueued. `kernel` and `shape` are there for launches, so that graphs can be compared.
struct Operation {
  const char* name = "";
  std::function<Progress()> run;
  std::shared_ptr<KernelCall> kernel;
  LaunchShape shape;
  Clock host;  ///< what the host knew to be done when it enqueued this
};

/// What the checker keeps of an operation that has run or runs.
struct OperationRecord {
  uint32_t stream = 0, time = 0;
  Clock clock;
  const char* name = "host code";
};
/// Number of the operation that runs; 0 is host code.
uint32_t current_operation();
const OperationRecord& operation_record(uint32_t number);
/// The clock of the running operation: to be joined with what it has waited for. Empty without the checker.
Clock& current_clock();
bool happens_before(uint32_t one, uint32_t other);

struct Graph;
struct Capture;

}  // namespace gpu_emulation

struct CUstream_st {
  int device = 0;
  uint32_t id = 0;
  bool destroyed = false;
  std::deque<gpu_emulation::Operation> queue;
  gpu_emulation::Clock clock;
  gpu_emulation::Capture* capture = nullptr;  ///< while it is captured into a graph
  std::vector<int> capture_heads;             ///< nodes that the next captured one comes after
};

struct CUevent_st {
  bool recorded = false;
  uint64_t asked = 0, done = 0;  ///< how often it was recorded, and how often that has happened
  gpu_emulation::Clock clock;
  double milliseconds = 0;  ///< when it happened
  gpu_emulation::Capture* capture = nullptr;
  std::vector<int> capture_nodes;
};

namespace gpu_emulation {

int current_device();
void set_current_device(int device);

/// Reports and returns false when the stream was destroyed or belongs to another device.
bool require_usable(cudaStream_t stream, const char* what);

cudaStream_t make_stream(int device);
void destroy_stream(cudaStream_t stream);
/// The legacy default stream: whoever uses it is reported.
cudaStream_t legacy_stream(int device);
bool is_legacy(cudaStream_t stream);

/// Enqueues, or adds to the graph that the stream is captured into.
void enqueue(cudaStream_t stream, Operation operation);
/// Runs operations until the stream, or every stream of the device, is empty.
void drain(cudaStream_t stream);
void drain_device(int device);
/// Runs operations of the device until `done` says so.
void drive(int device, const std::function<bool()>& done);
/// Lets the device work a little: at most one operation runs.
void nudge(int device);
/// From here on devices also work while the host does something else, as GPUs do: with several ranks, one may wait for
/// what another one's device has still to do, while that other one waits for the first. (A thread does it.)
void work_in_background();
/// From here on the host knows that what the clock says is done.
void host_knows(const Clock& clock);
const Clock& host_clock();

/// The error that has ended a device's work: every later call gives it back (a CUDA context does not recover).
cudaError_t device_error(int device);
void set_device_error(int device, cudaError_t error);

/// Runs one operation on behalf of a stream or of a lane of a graph, whose clock it advances.
Progress run_operation(const Operation& operation, uint32_t stream_id, Clock& clock);
uint32_t next_stream_id();

}  // namespace gpu_emulation
