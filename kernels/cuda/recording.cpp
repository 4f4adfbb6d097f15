// A step as a CUDA graph, which is captured once and launched as one piece of work from then on. When the step has to
// be captured again, its form is the same. So the executable graph is updated, which is much cheaper than making one.
#include <exception>

#include "core/error.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/errors.h"

namespace strand {

using gpu::check;

namespace {
class GraphRecording final : public Device::Recording {
 public:
  GraphRecording() = default;
  ~GraphRecording() override {
    if (executable != nullptr) cudaGraphExecDestroy(executable);
  }
  GraphRecording(const GraphRecording&) = delete;
  GraphRecording& operator=(const GraphRecording&) = delete;

  bool ran = false;
  cudaGraphExec_t executable = nullptr;
  const void* workspace = nullptr;      ///< where the device's was when the body was captured
  std::shared_ptr<CudaTrail::Log> log;  ///< of what was captured
};

/// Owns a graph, and destroys it at the end.
struct CapturedGraph {
  CapturedGraph() = default;
  ~CapturedGraph() {
    if (graph != nullptr) cudaGraphDestroy(graph);
  }
  CapturedGraph(const CapturedGraph&) = delete;
  CapturedGraph& operator=(const CapturedGraph&) = delete;
  cudaGraph_t graph = nullptr;
};

/// While an object lives, the trail writes the log of a recording.
class LogScope {
 public:
  LogScope(CudaTrail& trail, std::shared_ptr<CudaTrail::Log>& log) : trail_(trail) { log = trail.begin_recording(); }
  ~LogScope() { trail_.end_recording(); }
  LogScope(const LogScope&) = delete;
  LogScope& operator=(const LogScope&) = delete;

 private:
  CudaTrail& trail_;
};

void capture(cudaStream_t stream, const std::function<void()>& body, CapturedGraph& captured) {
  // The mode is thread-local, so that other threads may allocate and wait meanwhile.
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "beginning to capture a step");
  try {
    body();
  } catch (...) {
    cudaStreamEndCapture(stream, &captured.graph);
    throw;
  }
  check(cudaStreamEndCapture(stream, &captured.graph), "capturing a step");
}

void update(cudaGraphExec_t& executable, cudaGraph_t graph) {
  if (executable != nullptr) {
    cudaGraphExecUpdateResultInfo result{};
    const cudaError_t error = cudaGraphExecUpdate(executable, graph, &result);
    if (error == cudaSuccess) return;
    require(error == cudaErrorGraphExecUpdateFailure, "cuda: updating the graph of a step: {} ({})",
            cudaGetErrorString(error), cudaGetErrorName(error));
    cudaGetLastError();  // another form: it needs a new executable graph, and that is all
    cudaGraphExecDestroy(executable);
    executable = nullptr;
  }
  check(cudaGraphInstantiate(&executable, graph, 0), "making the graph of a step");
}
}  // namespace

std::unique_ptr<Device::Recording> CudaDevice::make_recording() {
  return std::make_unique<GraphRecording>();
}

Device::Ran CudaDevice::run(Recording& recording, const std::function<void()>& body) {
  auto& graph = dynamic_cast<GraphRecording&>(recording);
  if (!graph.ran) {
    body();
    graph.ran = true;
    return Ran::body;
  }
  const bool valid = graph.executable != nullptr && graph.workspace == workspace_.data();
  if (!valid) {
    CapturedGraph captured;
    {
      const LogScope scope(*trail_, graph.log);
      capture(stream(Stream::compute), body, captured);
    }
    update(graph.executable, captured.graph);
    graph.workspace = workspace_.data();
  }
  check(cudaGraphLaunch(graph.executable, stream(Stream::compute)), "launching the graph of a step");
  return valid ? Ran::recording : Ran::body;
}

}  // namespace strand
