// Seeded bugs in bounds, alignment, and memory that nobody has written.
#include "gpu_emulation/seeded_programs/host_side.cuh"

namespace seeded_programs {

namespace {

// ---- bounds
__global__ void reads_one_too_far(float* out, const float* in, int n) {
  const int i = static_cast<int>(threadIdx.x);
  if (i > n) return;
  const float value = in[i];
  if (i < n)
    out[i] = value;
  else if (value == 12345.0f)
    out[0] = value;
}
bool global_read_past_the_end() {
  float* out = device_memory(128);
  GPU_LAUNCH(reads_one_too_far, dim3(1), dim3(128), 0, stream(), out, ones(64), 64);
  return all_are(out, 64, 1, stream());
}

__global__ void writes_one_too_far(float* out, int n) {
  if (static_cast<int>(threadIdx.x) <= n) out[threadIdx.x] = 1.0f;
}
bool global_write_past_the_end() {
  float* out = device_memory(64);
  GPU_LAUNCH(writes_one_too_far, dim3(1), dim3(128), 0, stream(), out, 64);
  return all_are(out, 64, 1, stream());
}

__global__ void writes_past_dynamic_shared(float* out) {
  GPU_DYN_SHARED(float, s);
  s[threadIdx.x + 1] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x + 1];
}
bool dynamic_shared_past_the_end() {
  float* out = device_memory(128);
  GPU_LAUNCH(writes_past_dynamic_shared, dim3(1), dim3(64), 256, stream(), out);
  return all_are(out, 64, 1, stream());
}

__global__ void writes_past_static_shared(float* out, int n) {
  __shared__ float a[64];
  __shared__ float b[64];
  for (int i = static_cast<int>(threadIdx.x); i <= n; i += 64) a[i] = 1.0f;
  b[threadIdx.x] = 2.0f;
  __syncthreads();
  out[threadIdx.x] = a[threadIdx.x] + b[threadIdx.x];
}
bool static_shared_past_the_end() {
  float* out = device_memory(128);
  GPU_LAUNCH(writes_past_static_shared, dim3(1), dim3(64), 0, stream(), out, 64);
  return all_are(out, 64, 3, stream());
}

__global__ void loads_misaligned(float* out, const float* in) {
  const gpu::Pack<float> pack = gpu::load16(in + 1 + 4 * threadIdx.x);
  out[threadIdx.x] = pack[0] + pack[1] + pack[2] + pack[3];
}
bool misaligned_load() {
  float* out = device_memory(128);
  GPU_LAUNCH(loads_misaligned, dim3(1), dim3(16), 0, stream(), out, ones(128));
  return all_are(out, 16, 4, stream());
}

__global__ void loads_misaligned_by_hand(float* out, const float* in) {
  const float4 v = *reinterpret_cast<const float4*>(in + 1 + 4 * threadIdx.x);
  out[threadIdx.x] = v.x + v.y + v.z + v.w;
}
bool misaligned_vector() {
  float* out = device_memory(128);
  GPU_LAUNCH(loads_misaligned_by_hand, dim3(1), dim3(16), 0, stream(), out, ones(128));
  return all_are(out, 16, 4, stream());
}

__global__ void overflows(float* out, int rows, int columns) {
  const int i = (rows - 1) * columns + static_cast<int>(threadIdx.x);
  out[i < 0 ? 0 : (i & 31)] = 1.0f;
}
bool overflow_of_an_index() {
  GPU_LAUNCH(overflows, dim3(1), dim3(1), 0, stream(), device_memory(128), 70000, 70000);
  return cudaStreamSynchronize(stream()) == cudaSuccess;
}

bool host_memory_in_a_kernel() {
  float* out = device_memory(128);
  std::vector<float> host(128, 1.0f);
  GPU_LAUNCH(fill, dim3(1), dim3(128), 0, stream(), out, 0.0f, 128);
  GPU_LAUNCH(add, dim3(1), dim3(128), 0, stream(), out, host.data(), 128);
  return all_are(out, 128, 1, stream());
}

bool device_memory_on_the_host() {
  const volatile float* memory = ones(128);
  cudaStreamSynchronize(stream());
  return *memory == 1;
}

// ---- undefined memory
__global__ void leaves_one_unwritten(float* out) {
  __shared__ float s[64];
  if (threadIdx.x < 63) s[threadIdx.x] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x];
}
bool uninitialised_shared_memory() {
  float* out = device_memory(128);
  GPU_LAUNCH(leaves_one_unwritten, dim3(1), dim3(64), 0, stream(), out);
  return all_are(out, 64, 1, stream());
}

__global__ void accumulates(float* out) {
  out[threadIdx.x] += 1.0f;
}
bool uninitialised_global_memory() {
  float* out = device_memory(128);
  GPU_LAUNCH(accumulates, dim3(1), dim3(64), 0, stream(), out);
  return all_are(out, 64, 1, stream());
}

}  // namespace

std::vector<Bug> memory() {
  return {
      {"a global read one past the end", global_read_past_the_end, "illegal-address", "fault", "out-of-bounds"},
      {"a global write one past the end", global_write_past_the_end, "illegal-address", "fault", "out-of-bounds"},
      {"a write past dynamic shared memory", dynamic_shared_past_the_end, "", "fault", "out-of-bounds"},
      {"a write past a static shared array", static_shared_past_the_end, "", "fault", ""},
      {"load16 from a misaligned address", misaligned_load, "misaligned", "fault", "misaligned"},
      {"a misaligned float4", misaligned_vector, "", "fault", ""},
      {"an index overflows int", overflow_of_an_index, "", "fault", ""},
      {"host memory in a kernel", host_memory_in_a_kernel, "", "", "out-of-bounds"},
      {"device memory on the host", device_memory_on_the_host, "fault", "fault", "fault"},

      {"uninitialised shared memory", uninitialised_shared_memory, "wrong", "wrong", "uninitialised"},
      {"uninitialised global memory", uninitialised_global_memory, "wrong", "wrong", "uninitialised"},
  };
}

}  // namespace seeded_programs
