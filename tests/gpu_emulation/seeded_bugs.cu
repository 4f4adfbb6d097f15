#include <cstdlib>
#include <iterator>

#include "gpu_emulation/seeded_bugs.h"
#include "kernels/cuda/gpu.cuh"
#include "kernels/cuda/ptx.cuh"

namespace seeded_bugs {

using namespace strand;

namespace {

// ---- host side of all programs
constexpr size_t kilobyte = 1024;

cudaStream_t make_stream() {
  cudaStream_t stream = nullptr;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  return stream;
}
cudaStream_t stream() {
  static const cudaStream_t s = make_stream();
  return s;
}
cudaStream_t second_stream() {
  static const cudaStream_t s = make_stream();
  return s;
}
cudaEvent_t make_event() {
  cudaEvent_t event = nullptr;
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  return event;
}

template <typename T = float>
T* device_memory(size_t n) {
  void* memory = nullptr;
  cudaMalloc(&memory, n * sizeof(T));
  return static_cast<T*>(memory);
}

__global__ void fill(float* to, float value, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) to[i] = value;
}
__global__ void add(float* to, const float* from, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) to[i] += from[i];
}

float* ones(int n) {
  float* memory = device_memory(static_cast<size_t>(n));
  GPU_LAUNCH(fill, dim3(static_cast<unsigned>((n + 127) / 128)), dim3(128), 0, stream(), memory, 1.0f, n);
  return memory;
}
/// Whether all n numbers have the value.
bool all_are(const float* device, int n, float value, cudaStream_t on) {
  std::vector<float> host(static_cast<size_t>(n));
  cudaMemcpyAsync(host.data(), device, sizeof(float) * host.size(), cudaMemcpyDeviceToHost, on);
  cudaStreamSynchronize(on);
  for (const float x : host)
    if (x != value) return false;
  return true;
}

// ---- order within a block
__global__ void reads_without_barrier(float* out, const float* in) {
  __shared__ float s[128];
  s[threadIdx.x] = in[threadIdx.x];
  out[threadIdx.x] = s[127 - threadIdx.x];
}
bool missing_barrier() {
  float* out = device_memory(128);
  GPU_LAUNCH(reads_without_barrier, dim3(1), dim3(128), 0, stream(), out, ones(128));
  return all_are(out, 128, 1, stream());
}

__global__ void overwrites_before_read(float* out, const float* in, int rounds) {
  __shared__ float s[128];
  float sum = 0;
  for (int r = 0; r < rounds; ++r) {
    s[threadIdx.x] = in[r * 128 + static_cast<int>(threadIdx.x)];
    __syncthreads();
    sum += s[127 - threadIdx.x];
  }
  out[threadIdx.x] = sum;
}
bool missing_second_barrier() {
  float* out = device_memory(128);
  GPU_LAUNCH(overwrites_before_read, dim3(1), dim3(128), 0, stream(), out, ones(512), 4);
  return all_are(out, 128, 4, stream());
}

__global__ void reads_without_syncwarp(float* out, const float* in) {
  __shared__ float s[32];
  s[threadIdx.x] = in[threadIdx.x];
  out[threadIdx.x] = s[threadIdx.x ^ 1];
}
bool missing_syncwarp() {
  float* out = device_memory(128);
  GPU_LAUNCH(reads_without_syncwarp, dim3(1), dim3(32), 0, stream(), out, ones(32));
  return all_are(out, 32, 1, stream());
}

__global__ void waits_in_both_branches(float* out) {
  if (threadIdx.x < 32) {
    out[threadIdx.x] = 1;
    __syncthreads();
  } else {
    out[threadIdx.x] = 1;
    __syncthreads();
  }
}
bool barrier_in_both_branches() {
  float* out = device_memory(128);
  GPU_LAUNCH(waits_in_both_branches, dim3(1), dim3(64), 0, stream(), out);
  return all_are(out, 64, 1, stream());
}

__global__ void returns_early(float* out, int n) {
  __shared__ float s[64];
  if (static_cast<int>(threadIdx.x) >= n) return;
  s[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x];
}
bool return_before_barrier() {
  float* out = device_memory(128);
  GPU_LAUNCH(returns_early, dim3(1), dim3(64), 0, stream(), out, 48);
  return all_are(out, 48, 1, stream());
}

__global__ void waits_in_part(float* out, int n) {
  __shared__ float s[64];
  s[threadIdx.x] = 1;
  if (static_cast<int>(threadIdx.x) < n) __syncthreads();
  out[threadIdx.x] = s[threadIdx.x ^ 1];
}
bool barrier_for_part_of_the_block() {
  float* out = device_memory(128);
  GPU_LAUNCH(waits_in_part, dim3(1), dim3(64), 0, stream(), out, 32);
  return all_are(out, 64, 1, stream());
}

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

// ---- warp operations
__global__ void shuffles_from_outside(float* out) {
  if (threadIdx.x >= 16) return;
  float value = 1.0f;
  value += __shfl_xor_sync(0x0000ffffu, value, 16);
  out[threadIdx.x] = value;
}
bool shuffle_of_an_absent_lane() {
  float* out = device_memory(128);
  GPU_LAUNCH(shuffles_from_outside, dim3(1), dim3(32), 0, stream(), out);
  return all_are(out, 16, 2, stream());
}

__global__ void shuffles_in_a_branch(float* out) {
  float value = 1.0f;
  if (threadIdx.x < 16) value += __shfl_xor_sync(0xffffffffu, value, 1);
  out[threadIdx.x] = value;
  __syncwarp();
}
bool full_mask_in_a_branch() {
  float* out = device_memory(128);
  GPU_LAUNCH(shuffles_in_a_branch, dim3(1), dim3(32), 0, stream(), out);
  return all_are(out, 16, 2, stream());
}

__global__ void multiplies_with_half_a_warp(float* out) {
  float d[4] = {};
  const unsigned a[4] = {}, b[2] = {};
  if (threadIdx.x < 16) ptx::mma_m16n8k16_bf16(d, a, b, d);
  out[threadIdx.x] = 1.0f + d[0];
}
bool tensor_core_with_half_a_warp() {
  float* out = device_memory(128);
  GPU_LAUNCH(multiplies_with_half_a_warp, dim3(1), dim3(32), 0, stream(), out);
  return all_are(out, 32, 1, stream());
}

// ---- order between blocks
__global__ void writes_own_block(float* out) {
  out[threadIdx.x] = static_cast<float>(blockIdx.x);
}
bool two_blocks_write_one_element() {
  float* out = device_memory(128);
  GPU_LAUNCH(writes_own_block, dim3(2), dim3(32), 0, stream(), out);
  return all_are(out, 32, 1, stream());
}

__global__ void counts_plainly(int* histogram, const int* keys) {
  histogram[keys[blockIdx.x * blockDim.x + threadIdx.x]] += 1;
}
bool histogram_without_atomics() {
  int* histogram = device_memory<int>(4);
  int* keys = device_memory<int>(256);
  cudaMemsetAsync(histogram, 0, 4 * sizeof(int), stream());
  cudaMemsetAsync(keys, 0, 256 * sizeof(int), stream());
  GPU_LAUNCH(counts_plainly, dim3(2), dim3(128), 0, stream(), histogram, keys);
  int counts[4] = {};
  cudaMemcpyAsync(counts, histogram, sizeof counts, cudaMemcpyDeviceToHost, stream());
  cudaStreamSynchronize(stream());
  return counts[0] == 256;
}

template <bool fenced>
__global__ void last_block_sums(float* out, float* parts, int* ticket) {
  __shared__ bool last;
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = static_cast<float>(blockIdx.x + 1);
    if (fenced) __threadfence();
    last = atomicAdd(ticket, 1) == static_cast<int>(gridDim.x) - 1;
    if (fenced) __threadfence();
  }
  __syncthreads();
  if (!last || threadIdx.x != 0) return;
  float sum = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += parts[i];
  *out = sum;
}
template <bool fenced>
bool last_block() {
  float* out = device_memory(1);
  int* ticket = device_memory<int>(1);
  cudaMemsetAsync(ticket, 0, sizeof(int), stream());
  GPU_LAUNCH(last_block_sums<fenced>, dim3(8), dim3(32), 0, stream(), out, device_memory(8), ticket);
  return all_are(out, 1, 36, stream());
}

// ---- asynchronous copies
template <bool waits>
__global__ void copies(float* out, const float* in) {
  __shared__ __align__(16) float s[128];
  ptx::cp_async16(s + 4 * threadIdx.x, in + 4 * threadIdx.x, true);
  ptx::cp_async_commit();
  if (waits) ptx::cp_async_wait<0>();
  __syncthreads();
  for (int i = 0; i < 4; ++i)
    out[4 * threadIdx.x + static_cast<unsigned>(i)] = s[4 * threadIdx.x + static_cast<unsigned>(i)];
  if (!waits) ptx::cp_async_wait<0>();
}
template <bool waits>
bool async_copy() {
  float* out = device_memory(128);
  GPU_LAUNCH(copies<waits>, dim3(1), dim3(32), 0, stream(), out, ones(128));
  return all_are(out, 128, 1, stream());
}

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
bool shared_memory_too_large() {
  float* out = device_memory(128);
  return accepted([&] { GPU_LAUNCH(writes_past_dynamic_shared, dim3(1), dim3(64), 300 * kilobyte, stream(), out); });
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

const std::vector<Bug>& all() {
  // The columns: plain, with AddressSanitizer and UndefinedBehaviorSanitizer, with the checker.
  static const std::vector<Bug> bugs = {
      {"control: last block with a fence", last_block<true>, "", "", ""},
      {"control: streams ordered by an event", two_streams<true>, "", "", ""},
      {"control: cp.async with its wait", async_copy<true>, "", "", ""},
      {"control: a graph, launched three times", graph, "", "", ""},

      {"__syncthreads is missing", missing_barrier, "wrong", "wrong", "race"},
      {"the second __syncthreads of a loop is missing", missing_second_barrier, "", "", "race"},
      {"__syncwarp is missing", missing_syncwarp, "wrong", "wrong", "race"},
      {"__syncthreads in both branches of an if", barrier_in_both_branches, "divergent-barrier", "divergent-barrier",
       "divergent-barrier"},
      {"return before __syncthreads", return_before_barrier, "barrier-after-exit", "barrier-after-exit",
       "barrier-after-exit"},
      {"__syncthreads for a part of the block", barrier_for_part_of_the_block, "barrier-after-exit",
       "barrier-after-exit", "barrier-after-exit"},

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

      {"a shuffle reads a lane outside its mask", shuffle_of_an_absent_lane, "shuffle-of-absent-lane",
       "shuffle-of-absent-lane", "shuffle-of-absent-lane"},
      {"a shuffle with the full mask in a branch", full_mask_in_a_branch, "deadlock", "deadlock", "deadlock"},
      {"mma with half a warp", tensor_core_with_half_a_warp, "tensor-core-partial-warp", "tensor-core-partial-warp",
       "tensor-core-partial-warp"},

      {"two blocks write one element", two_blocks_write_one_element, "?wrong", "?wrong", "race"},
      {"a histogram without atomics", histogram_without_atomics, "", "", "race"},
      {"last block without a fence", last_block<false>, "", "", "race"},

      {"cp.async without its wait", async_copy<false>, "wrong", "wrong", "cp-async-pending"},

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

      {"2048 threads a block", block_too_large, "launch-configuration", "launch-configuration", "launch-configuration"},
      {"300 KiB of shared memory", shared_memory_too_large, "wrong", "wrong", "wrong"},
      {"a copy in the wrong direction", copy_in_the_wrong_direction, "memcpy-kind", "memcpy-kind", "memcpy-kind"},

      {"a wait in a graph", wait_in_a_graph, "graph-capture", "graph-capture", "graph-capture"},
      {"an allocation in a graph", allocation_in_a_graph, "graph-capture", "graph-capture", "graph-capture"},
      {"a stream of a graph that nobody joins", unjoined_stream_in_a_graph, "wrong", "wrong", "wrong"},
  };
  return bugs;
}

}  // namespace seeded_bugs
