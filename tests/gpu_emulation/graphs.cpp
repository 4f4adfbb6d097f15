#include "gpu_emulation/graphs.h"

#include <algorithm>

#include "gpu_emulation/checker.h"
#include "gpu_emulation/counters.h"
#include "gpu_emulation/random_order.h"
#include "gpu_emulation/reports.h"

struct CUgraph_st {
  gpu_emulation::Graph graph;
};
struct CUgraphExec_st {
  gpu_emulation::Graph graph;
  std::vector<uint32_t> lane_ids;  ///< of the lanes as streams, for clocks
};

namespace gpu_emulation {

namespace {
Capture* active = nullptr;  // one at a time: strand captures from one thread

void add_stream(Capture& capture, cudaStream_t stream) {
  stream->capture = &capture;
  if (std::find(capture.streams.begin(), capture.streams.end(), stream) == capture.streams.end())
    capture.streams.push_back(stream);
}

int lane_of(const Capture& capture, cudaStream_t stream) {
  return static_cast<int>(std::find(capture.streams.begin(), capture.streams.end(), stream) - capture.streams.begin());
}

void merge(std::vector<int>& into, const std::vector<int>& nodes) {
  for (const int node : nodes)
    if (std::find(into.begin(), into.end(), node) == into.end()) into.push_back(node);
}

/// Every captured stream must have been joined: its last node lies before the origin's.
bool all_joined(const Capture& capture) {
  std::vector<bool> before(capture.graph.nodes.size(), false);
  std::vector<int> open = capture.origin->capture_heads;
  while (!open.empty()) {
    const int node = open.back();
    open.pop_back();
    if (before[static_cast<size_t>(node)]) continue;
    before[static_cast<size_t>(node)] = true;
    const auto& after = capture.graph.nodes[static_cast<size_t>(node)].after;
    open.insert(open.end(), after.begin(), after.end());
  }
  return std::all_of(capture.streams.begin(), capture.streams.end(), [&](cudaStream_t stream) {
    return std::all_of(stream->capture_heads.begin(), stream->capture_heads.end(),
                       [&](int node) { return before[static_cast<size_t>(node)]; });
  });
}

/// Whether the other graph has the same nodes in the same places, so that only parameters differ.
bool same_form(const Graph& one, const Graph& other) {
  if (one.nodes.size() != other.nodes.size()) return false;
  for (size_t i = 0; i < one.nodes.size(); ++i) {
    const Node &a = one.nodes[i], &b = other.nodes[i];
    if (a.after != b.after || (a.operation.kernel == nullptr) != (b.operation.kernel == nullptr)) return false;
    if (a.operation.kernel != nullptr ? a.operation.kernel->function != b.operation.kernel->function
                                      : std::string(a.operation.name) != b.operation.name)
      return false;
  }
  return true;
}

/// A replay that is under way: it may have to wait for another rank in between.
struct Replay {
  std::shared_ptr<const Graph> graph;
  std::vector<uint32_t> lane_ids;
  std::vector<bool> done;
  std::vector<Clock> clocks;  ///< after each node
  size_t left = 0;
};

Progress replay(Replay& r) {
  const auto& nodes = r.graph->nodes;
  while (r.left > 0) {
    std::vector<size_t> candidates;
    for (size_t i = 0; i < nodes.size(); ++i) {
      if (r.done[i]) continue;
      const auto& after = nodes[i].after;
      if (std::all_of(after.begin(), after.end(), [&](int n) { return r.done[static_cast<size_t>(n)]; }))
        candidates.push_back(i);
      if (candidates.size() == 8) break;  // enough to choose from
    }
    bool moved = false;
    while (!moved && !candidates.empty()) {
      const uint32_t c = random_below(static_cast<uint32_t>(candidates.size()));
      const size_t i = candidates[c];
      Clock clock = current_clock();
      for (const int n : nodes[i].after) join(clock, r.clocks[static_cast<size_t>(n)]);
      if (run_operation(nodes[i].operation, r.lane_ids[static_cast<size_t>(nodes[i].lane)], clock) == Progress::done) {
        r.done[i] = moved = true;
        r.clocks[i] = std::move(clock);
        --r.left;
      } else {
        candidates.erase(candidates.begin() + c);
      }
      if (device_error(current_device()) != cudaSuccess) return Progress::done;
    }
    if (!moved) return Progress::waits_for_process;
  }
  if (checker_on)
    for (const Clock& clock : r.clocks) join(current_clock(), clock);
  return Progress::done;
}
}  // namespace

void capture_operation(cudaStream_t stream, Operation operation) {
  Capture& capture = *stream->capture;
  const int number = static_cast<int>(capture.graph.nodes.size());
  capture.graph.nodes.push_back({std::move(operation), stream->capture_heads, lane_of(capture, stream)});
  stream->capture_heads = {number};
}

bool capture_record(cudaEvent_t event, cudaStream_t stream) {
  event->capture = nullptr;
  if (is_legacy(stream) || stream->capture == nullptr) return false;
  event->capture = stream->capture;
  event->capture_nodes = stream->capture_heads;
  return true;
}

bool capture_wait(cudaStream_t stream, cudaEvent_t event) {
  if (event->capture == nullptr) {
    if (!is_legacy(stream) && stream->capture != nullptr) {
      report("graph-capture", "a captured stream waits for an event that was recorded outside the capture");
      stream->capture->broken = true;
      return true;
    }
    return false;
  }
  if (event->capture != active) {
    report("graph-capture", "cudaStreamWaitEvent on an event of a capture that has ended");
    return true;
  }
  add_stream(*active, stream);
  merge(stream->capture_heads, event->capture_nodes);
  return true;
}

bool breaks_capture(const char* what) {
  if (active == nullptr) return false;
  if (active->mode == cudaStreamCaptureModeThreadLocal && active->thread != std::this_thread::get_id()) return false;
  active->broken = true;
  report("graph-capture", "%s while a stream is captured: no graph can contain it", what);
  return true;
}

}  // namespace gpu_emulation

using namespace gpu_emulation;

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  const std::lock_guard lock(api_mutex());
  if (is_legacy(stream)) return cudaErrorStreamCaptureUnsupported;
  if (active != nullptr) return cudaErrorIllegalState;
  active = new Capture;
  active->origin = stream;
  active->mode = mode;
  active->thread = std::this_thread::get_id();
  add_stream(*active, stream);
  stream->capture_heads.clear();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const std::lock_guard lock(api_mutex());
  *graph = nullptr;
  if (active == nullptr || active->origin != stream) return cudaErrorIllegalState;
  const std::unique_ptr<Capture> capture(active);
  active = nullptr;
  const bool joined = all_joined(*capture);
  for (cudaStream_t captured : capture->streams) {
    captured->capture = nullptr;
    captured->capture_heads.clear();
  }
  if (capture->broken) return cudaErrorStreamCaptureInvalidated;
  if (!joined) return cudaErrorStreamCaptureUnjoined;
  capture->graph.lanes = static_cast<int>(capture->streams.size());
  *graph = new CUgraph_st{std::move(capture->graph)};
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const std::lock_guard lock(api_mutex());
  *status = is_legacy(stream) || stream->capture == nullptr ? cudaStreamCaptureStatusNone
            : stream->capture->broken                       ? cudaStreamCaptureStatusInvalidated
                                                            : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  const std::lock_guard lock(api_mutex());
  *exec = new CUgraphExec_st{graph->graph, {}};
  for (int lane = 0; lane < graph->graph.lanes; ++lane) (*exec)->lane_ids.push_back(next_stream_id());
  ++running_counters().graph_instantiations;
  return cudaSuccess;
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph, cudaGraphExecUpdateResultInfo* result) {
  const std::lock_guard lock(api_mutex());
  *result = {};
  if (!same_form(exec->graph, graph->graph)) {
    result->result = cudaGraphExecUpdateErrorTopologyChanged;
    return cudaErrorGraphExecUpdateFailure;
  }
  exec->graph = graph->graph;
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  const std::lock_guard lock(api_mutex());
  if (const cudaError_t error = device_error(current_device()); error != cudaSuccess) return error;
  ++running_counters().graph_launches;
  auto run = std::make_shared<Replay>();
  run->graph = std::make_shared<const Graph>(exec->graph);  // an update must not reach a launch that waits
  run->lane_ids = exec->lane_ids;
  run->left = exec->graph.nodes.size();
  run->done.assign(run->left, false);
  run->clocks.resize(run->left);
  enqueue(stream, {.name = "cudaGraphLaunch", .run = [run] { return replay(*run); }});
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, size_t* count) {
  *count = graph->graph.nodes.size();
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}

}  // extern "C"
