// Seeded bugs in streams, events, and what the host does beside them.
#include "gpu_emulation/seeded_programs/host_side.cuh"

namespace seeded_programs {

namespace {

// ---- streams
template <bool ordered>
bool two_streams() {
  float *out = device_memory(128), *in = device_memory(128);
  GPU_LAUNCH(fill, dim3(1), dim3(128), 0, stream(), in, 1.0f, 128);
  GPU_LAUNCH(fill, dim3(1), dim3(128), 0, second_stream(), out, 1.0f, 128);
  if (ordered) {
    const cudaEvent_t event = make_event();
    cudaEventRecord(event, stream());
    cudaStreamWaitEvent(second_stream(), event, 0);
  }
  GPU_LAUNCH(add, dim3(1), dim3(128), 0, second_stream(), out, in, 128);
  const bool right = all_are(out, 128, 2, second_stream());
  cudaStreamSynchronize(stream());
  return right;
}

float* pinned_memory(size_t n) {
  void* memory = nullptr;
  cudaMallocHost(&memory, n * sizeof(float));
  return static_cast<float*>(memory);
}
bool host_reads_too_early() {
  float* host = pinned_memory(128);
  cudaMemcpyAsync(host, ones(128), 128 * sizeof(float), cudaMemcpyDeviceToHost, stream());
  const bool right = host[0] == 1;
  cudaStreamSynchronize(stream());
  return right;
}
bool staging_used_again_too_early() {
  float *out = device_memory(128), *host = pinned_memory(128);
  for (int i = 0; i < 128; ++i) host[i] = 1;
  cudaMemcpyAsync(out, host, 128 * sizeof(float), cudaMemcpyHostToDevice, stream());
  for (int i = 0; i < 128; ++i) host[i] = 7;
  return all_are(out, 128, 1, stream());
}

bool used_after_free() {
  float *in = ones(128), *out = ones(128);
  cudaFreeAsync(in, stream());
  GPU_LAUNCH(add, dim3(1), dim3(128), 0, stream(), out, in, 128);
  return cudaStreamSynchronize(stream()) == cudaSuccess;
}
bool freed_while_another_stream_works() {
  float *in = ones(128), *out = device_memory(128);
  cudaStreamSynchronize(stream());
  GPU_LAUNCH(fill, dim3(1), dim3(128), 0, second_stream(), out, 1.0f, 128);
  GPU_LAUNCH(add, dim3(1), dim3(128), 0, second_stream(), out, in, 128);
  cudaFreeAsync(in, stream());
  return cudaDeviceSynchronize() == cudaSuccess;
}
bool freed_twice() {
  float* memory = device_memory(128);
  cudaFree(memory);
  return cudaFree(memory) == cudaSuccess;
}
bool event_never_recorded() {
  cudaStreamWaitEvent(stream(), make_event(), 0);
  return cudaStreamSynchronize(stream()) == cudaSuccess;
}
bool legacy_stream() {
  GPU_LAUNCH(fill, dim3(1), dim3(128), 0, nullptr, device_memory(128), 1.0f, 128);
  return cudaDeviceSynchronize() == cudaSuccess;
}

}  // namespace

std::vector<Bug> streams() {
  return {
      {"control: streams ordered by an event", two_streams<true>, "", "", ""},

      {"a second stream without an event", two_streams<false>, "?wrong", "?wrong", "race"},
      {"the host reads before the copy is done", host_reads_too_early, "wrong", "wrong", "wrong"},
      {"staging memory used again too early", staging_used_again_too_early, "wrong", "wrong", "wrong"},
      {"memory used after cudaFreeAsync", used_after_free, "illegal-address", "fault", "out-of-bounds"},
      {"memory freed while another stream works", freed_while_another_stream_works, "?illegal-address", "?fault",
       "?race"},
      {"memory freed twice", freed_twice, "bad-free", "bad-free", "bad-free"},
      {"a wait for an event never recorded", event_never_recorded, "event-never-recorded", "event-never-recorded",
       "event-never-recorded"},
      {"a kernel on the legacy stream", legacy_stream, "legacy-stream", "legacy-stream", "legacy-stream"},
  };
}

}  // namespace seeded_programs
