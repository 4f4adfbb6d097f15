// Seeded bugs in arguments of the runtime, and graphs.
#include "gpu_emulation/seeded_programs/host_side.cuh"

namespace seeded_programs {

namespace {

// ---- arguments
/// Whether the launch is accepted. (gpu::launch throws when it is not.)
template <typename Launch>
bool accepted(const Launch& launch) {
  try {
    launch();
    return true;
  } catch (...) {
    return false;
  }
}
bool block_too_large() {
  float* out = device_memory(128);
  return accepted([&] { GPU_LAUNCH(fill, dim3(1), dim3(2048), 0, stream(), out, 1.0f, 128); });
}
__global__ void uses_dynamic_shared(float* out) {
  GPU_DYN_SHARED(float, s);
  s[threadIdx.x] = 1.0f;
  out[threadIdx.x] = s[threadIdx.x];
}
bool shared_memory_too_large() {
  constexpr size_t too_much = 300 * 1024;
  float* out = device_memory(128);
  return accepted([&] { GPU_LAUNCH(uses_dynamic_shared, dim3(1), dim3(64), too_much, stream(), out); });
}
bool copy_in_the_wrong_direction() {
  float host[128];
  return cudaMemcpyAsync(host, device_memory(128), sizeof host, cudaMemcpyHostToDevice, stream()) == cudaSuccess;
}

// ---- graphs
bool capture(const cudaStream_t on, void (*body)(float*), float* memory) {
  cudaGraph_t graph = nullptr;
  cudaStreamBeginCapture(on, cudaStreamCaptureModeThreadLocal);
  body(memory);
  if (cudaStreamEndCapture(on, &graph) != cudaSuccess) return false;
  cudaGraphExec_t executable = nullptr;
  cudaGraphInstantiate(&executable, graph, 0);
  for (int i = 0; i < 3; ++i) cudaGraphLaunch(executable, on);
  return cudaStreamSynchronize(on) == cudaSuccess;
}
bool graph() {
  float* out = ones(128);
  const bool good = capture(
      stream(), [](float* memory) { GPU_LAUNCH(add, dim3(1), dim3(128), 0, stream(), memory, memory, 128); }, out);
  return good && all_are(out, 128, 8, stream());
}
bool wait_in_a_graph() {
  return capture(
      stream(), [](float*) { cudaStreamSynchronize(stream()); }, ones(128));
}
bool allocation_in_a_graph() {
  return capture(
      stream(), [](float*) { device_memory(128); }, ones(128));
}
bool unjoined_stream_in_a_graph() {
  return capture(
      stream(),
      [](float* memory) {
        const cudaEvent_t event = make_event();
        cudaEventRecord(event, stream());
        cudaStreamWaitEvent(second_stream(), event, 0);
        GPU_LAUNCH(fill, dim3(1), dim3(128), 0, second_stream(), memory, 1.0f, 128);
      },
      ones(128));
}

}  // namespace

std::vector<Bug> arguments_and_graphs() {
  return {
      {"control: a graph, launched three times", graph, "", "", ""},

      {"2048 threads a block", block_too_large, "launch-configuration", "launch-configuration", "launch-configuration"},
      {"300 KiB of shared memory", shared_memory_too_large, "wrong", "wrong", "wrong"},
      {"a copy in the wrong direction", copy_in_the_wrong_direction, "memcpy-kind", "memcpy-kind", "memcpy-kind"},

      {"a wait in a graph", wait_in_a_graph, "graph-capture", "graph-capture", "graph-capture"},
      {"an allocation in a graph", allocation_in_a_graph, "graph-capture", "graph-capture", "graph-capture"},
      {"a stream of a graph that nobody joins", unjoined_stream_in_a_graph, "wrong", "wrong", "wrong"},
  };
}

}  // namespace seeded_programs
