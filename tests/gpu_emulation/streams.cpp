#include "gpu_emulation/streams.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <thread>

#include "gpu_emulation/checker.h"
#include "gpu_emulation/counters.h"
#include "gpu_emulation/device_memory.h"
#include "gpu_emulation/graphs.h"
#include "gpu_emulation/random_order.h"
#include "gpu_emulation/reports.h"

namespace gpu_emulation {

namespace {
struct State {
  std::vector<cudaStream_t> streams;
  std::vector<cudaStream_t> destroyed;  // kept, so that a later use is known for what it is
  cudaStream_t legacy[most_devices] = {};
  cudaError_t errors[most_devices] = {};
  std::deque<OperationRecord> records{OperationRecord{}};
  uint32_t running = 0;
  const char* running_name = "host code";
  uint32_t stream_ids = 0;
};
/// Never destroyed: streams may be drained until the very end of the program.
State& state() {
  static State& s = *new State;
  return s;
}

thread_local int device_of_thread = 0;
thread_local Clock clock_of_thread;

/// Runs the head of the stream's queue. False when it has to wait.
Progress step(cudaStream_t stream) {
  State& s = state();
  if (s.errors[stream->device] != cudaSuccess) {  // the device is dead: nothing runs any more
    stream->queue.clear();
    return Progress::done;
  }
  const int device = device_of_thread;
  device_of_thread = stream->device;
  join(stream->clock, stream->queue.front().host);
  const Progress progress = run_operation(stream->queue.front(), stream->id, stream->clock);
  device_of_thread = device;
  if (progress == Progress::done && !stream->queue.empty()) stream->queue.pop_front();
  return progress;
}

/// Runs one operation, of a stream that the seed chooses. waits_for_event when none can run.
Progress step_any(int device) {
  std::vector<cudaStream_t> candidates;
  for (cudaStream_t stream : state().streams)
    if (stream->device == device && !stream->queue.empty()) candidates.push_back(stream);
  Progress best = Progress::waits_for_event;
  while (!candidates.empty()) {
    const uint32_t i = random_below(static_cast<uint32_t>(candidates.size()));
    const Progress progress = step(candidates[i]);
    if (progress == Progress::done) return progress;
    if (progress == Progress::waits_for_process) best = progress;
    candidates.erase(candidates.begin() + i);
  }
  return best;
}

void report_stuck(int device) {
  std::string who;
  for (cudaStream_t stream : state().streams) {
    if (stream->device != device || stream->queue.empty()) continue;
    who += "\n    stream " + std::to_string(stream->id) + " at " + stream->queue.front().name;
    stream->queue.clear();
  }
  report("stream-deadlock", "device %d: no operation can run:%s", device, who.c_str());
}

/// Other threads may use the emulation, and other ranks may come to where they are waited for.
void wait_for_others() {
  api_mutex().unlock();
  std::this_thread::sleep_for(std::chrono::microseconds(50));
  api_mutex().lock();
}
}  // namespace

std::mutex& api_mutex() {
  static std::mutex& mutex = *new std::mutex;
  return mutex;
}

void join(Clock& into, const Clock& other) {
  if (into.size() < other.size()) into.resize(other.size());
  for (size_t i = 0; i < other.size(); ++i) into[i] = std::max(into[i], other[i]);
}

const char* current_operation_name() {
  return state().running_name;
}
uint32_t current_operation() {
  return state().running;
}
const OperationRecord& operation_record(uint32_t number) {
  return state().records[number];
}
Clock& current_clock() {
  static Clock unused;
  return checker_on ? state().records[state().running].clock : unused;
}

bool happens_before(uint32_t one, uint32_t other) {
  if (one == other) return true;
  const OperationRecord &a = state().records[one], &b = state().records[other];
  return a.time == 0 || (b.clock.size() > a.stream && b.clock[a.stream] >= a.time);
}

Progress run_operation(const Operation& operation, uint32_t stream_id, Clock& clock) {
  State& s = state();
  const uint32_t outer = s.running;
  const char* outer_name = s.running_name;
  s.running_name = operation.name;
  uint32_t mine = 0;
  if (checker_on) {
    Clock now = clock;
    if (now.size() <= stream_id) now.resize(stream_id + 1);
    ++now[stream_id];
    mine = static_cast<uint32_t>(s.records.size());
    s.records.push_back({stream_id, now[stream_id], std::move(now), operation.name});
    s.running = mine;
  }
  Progress progress = Progress::done;
  if (const auto fault = ordered_fault(operation.name))
    set_device_error(device_of_thread, *fault);
  else
    progress = operation.run();
  s.running = outer;
  s.running_name = outer_name;
  if (checker_on && progress == Progress::done) join(clock, s.records[mine].clock);
  if (checker_on && progress != Progress::done && mine + 1 == s.records.size()) s.records.pop_back();
  return progress;
}

int current_device() {
  return device_of_thread;
}
void set_current_device(int device) {
  device_of_thread = device;
}
cudaError_t device_error(int device) {
  return state().errors[device];
}
void set_device_error(int device, cudaError_t error) {
  state().errors[device] = error;
}
void host_knows(const Clock& clock) {
  if (checker_on) join(clock_of_thread, clock);
}
const Clock& host_clock() {
  return clock_of_thread;
}
uint32_t next_stream_id() {
  return state().stream_ids++;
}

cudaStream_t make_stream(int device) {
  auto* stream = new CUstream_st;
  stream->device = device;
  stream->id = next_stream_id();
  state().streams.push_back(stream);
  return stream;
}

void destroy_stream(cudaStream_t stream) {
  State& s = state();
  drain(stream);
  stream->destroyed = true;
  s.streams.erase(std::find(s.streams.begin(), s.streams.end(), stream));
  s.destroyed.push_back(stream);
}

cudaStream_t legacy_stream(int device) {
  cudaStream_t& stream = state().legacy[device];
  if (stream == nullptr) stream = make_stream(device);
  return stream;
}

bool is_legacy(cudaStream_t stream) {
  return stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread;
}

bool require_usable(cudaStream_t stream, const char* what) {
  if (is_legacy(stream)) return true;
  if (stream->destroyed) {
    report("destroyed-stream", "%s on a stream that was destroyed", what);
    return false;
  }
  if (stream->device != current_device())
    report("wrong-device", "%s: the stream belongs to device %d, and device %d is the current one", what,
           stream->device, current_device());
  return true;
}

void enqueue(cudaStream_t stream, Operation operation) {
  if (checker_on) operation.host = clock_of_thread;
  if (is_legacy(stream)) {  // it waits for all, and all wait for it
    report("legacy-stream", "%s is enqueued on the legacy default stream", operation.name);
    drain_device(current_device());
    legacy_stream(current_device())->queue.push_back(std::move(operation));
    drain_device(current_device());
    return;
  }
  if (!require_usable(stream, operation.name)) return;
  if (stream->capture != nullptr) return capture_operation(stream, std::move(operation));
  stream->queue.push_back(std::move(operation));
}

void drive(int device, const std::function<bool()>& done) {
  while (!done()) {
    Progress progress;
    {
      const DeviceMemoryOpen open;
      do {
        progress = step_any(device);
      } while (progress == Progress::done && !done());
    }
    if (done()) return;
    if (progress == Progress::waits_for_process) {
      wait_for_others();
    } else {
      report_stuck(device);
      return;
    }
  }
}

void nudge(int device) {
  const DeviceMemoryOpen open;
  step_any(device);
}

void work_in_background() {
  constexpr int most_at_once = 64;  // operations, before the host has its turn again
  static const bool started = [] {
    std::thread([] {
      for (;;) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        const std::lock_guard lock(api_mutex());
        const DeviceMemoryOpen open;
        for (int device = 0; device < device_count(); ++device)
          for (int i = 0; i < most_at_once && step_any(device) == Progress::done; ++i) {
          }
      }
    }).detach();
    return true;
  }();
  (void)started;
}

void drain(cudaStream_t stream) {
  drive(stream->device, [stream] { return stream->queue.empty(); });
  host_knows(stream->clock);
}

void drain_device(int device) {
  const auto of_device = [device](cudaStream_t stream) { return stream->device == device; };
  drive(device, [&] {
    return std::none_of(state().streams.begin(), state().streams.end(),
                        [&](cudaStream_t stream) { return of_device(stream) && !stream->queue.empty(); });
  });
  for (cudaStream_t stream : state().streams)
    if (of_device(stream)) host_knows(stream->clock);
}

}  // namespace gpu_emulation
