#pragma once
// Graphs: what is captured from streams, and its replay. A replay is one operation of the stream that it is launched
// on; its nodes run in an order that the seed decides, after what each comes after.
#include <thread>

#include "gpu_emulation/streams.h"

namespace gpu_emulation {

struct Node {
  Operation operation;
  std::vector<int> after;  ///< nodes that are done before it begins
  int lane = 0;            ///< nodes of one captured stream have one lane
};

struct Graph {
  std::vector<Node> nodes;
  int lanes = 0;
};

/// A capture that goes on.
struct Capture {
  cudaStream_t origin = nullptr;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;  ///< that began it
  std::vector<cudaStream_t> streams;  ///< the origin, and those that have waited for an event of the capture
  Graph graph;
  bool broken = false;  ///< by a call that no graph can contain
};

/// The captured stream's next node.
void capture_operation(cudaStream_t stream, Operation operation);
/// cudaEventRecord and cudaStreamWaitEvent on captured streams. False when it has nothing to do with a capture.
bool capture_record(cudaEvent_t event, cudaStream_t stream);
bool capture_wait(cudaStream_t stream, cudaEvent_t event);
/// A call that is not allowed during a capture breaks the capture that goes on: reports, and returns true. With
/// cudaStreamCaptureModeThreadLocal it is not allowed to the thread that captures alone.
bool breaks_capture(const char* what);

}  // namespace gpu_emulation
