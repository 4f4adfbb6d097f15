// Everything between the two expert GEMMs of the backward, in one pass over memory: the gradient of SwiGLU, of the
// routing weights and of SP, and the weighted z that dW_down needs.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/expert_rows.cuh"
#include "kernels/cuda/random.cuh"
#include "kernels/cuda/token_rows.cuh"

namespace strand {

using namespace gpu;

namespace {

constexpr int threads = 256, warps = threads / 32;

/// The buffers. dgate_up may be gate_up and weighted_z may be dz: a thread reads its columns of a row before it writes
/// them.
template <typename T>
struct Buffers {
  const T *gate_up, *dz;
  T *weighted_z, *dgate_up;
  const float* gates;  ///< nullptr: 1
  float* dgates;       ///< nullptr: nobody wants them
  int64_t width;

  __device__ float gate(int64_t slot) const { return gates != nullptr ? gates[slot] : 1.0f; }
};

/// z, rounded to the type in which forward kept it.
template <typename T, int N>
__device__ void recompute(const Buffers<T>& b, int64_t row, int64_t column, float (&z)[N]) {
  float gate[N], up[N];
  load(b.gate_up + row * 2 * b.width + column, gate);
  load(b.gate_up + (row * 2 + 1) * b.width + column, up);
#pragma unroll
  for (int j = 0; j < N; ++j) z[j] = round_to<T>(gate[j] * sigmoid(gate[j]) * up[j]);
}

/// Writes N columns of a row, given what is added to dz after the gate. Returns their part of ⟨dz', z⟩.
template <typename T, int N>
__device__ float finish(const Buffers<T>& b, int64_t row, int64_t column, float weight, const float (&partners)[N]) {
  float gate[N], up[N], incoming[N], weighted[N], dot = 0;
  load(b.gate_up + row * 2 * b.width + column, gate);
  load(b.gate_up + (row * 2 + 1) * b.width + column, up);
  load(b.dz + row * b.width + column, incoming);
#pragma unroll
  for (int j = 0; j < N; ++j) {
    const float s = sigmoid(gate[j]), silu = gate[j] * s;
    const float z = round_to<T>(silu * up[j]);
    const float dz = weight * incoming[j] + partners[j];
    dot += incoming[j] * z;
    weighted[j] = weight * z;
    gate[j] = dz * up[j] * (s + silu * (1.0f - s));
    up[j] = dz * silu;
  }
  store(b.weighted_z + row * b.width + column, weighted);
  store(b.dgate_up + row * 2 * b.width + column, gate);
  store(b.dgate_up + (row * 2 + 1) * b.width + column, up);
  return dot;
}

// Without partners here: a warp owns a row, its lanes walk the columns, N each. Reads gate, up, dz and the given pairs
// once, writes both outputs once; padding rows are cleared.
template <typename T, int N>
__global__ void __launch_bounds__(threads)
    swiglu_backward_rows_kernel(RowsInUse in_use, Buffers<T> b, const T* dz_pairs, const int32_t* pair_of_slot) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * warps + threadIdx.x / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int32_t slot = in_use.slot(row);
  if (slot == RowsInUse::untouched) return;
  if (slot == RowsInUse::padding) {
    const float zeros[N] = {};
    for (int64_t column = lane * N; column < b.width; column += 32 * N) {
      store(b.weighted_z + row * b.width + column, zeros);
      store(b.dgate_up + row * 2 * b.width + column, zeros);
      store(b.dgate_up + (row * 2 + 1) * b.width + column, zeros);
    }
    return;
  }
  const float weight = b.gate(slot);
  const int64_t pair = pair_of_slot != nullptr ? pair_of_slot[slot] : -1;
  float dot = 0;
  for (int64_t column = lane * N; column < b.width; column += 32 * N) {
    float partners[N] = {};
    if (pair >= 0) load(dz_pairs + pair * b.width + column, partners);
    dot += finish(b, row, column, weight, partners);
  }
  if (b.dgates == nullptr) return;
  dot = warp_sum(dot);
  if (lane == 0) b.dgates[slot] = dot;
}

/// With SP: the rows of a token together (token_rows.cuh). Those of tokens outside the sample have no partners.
template <typename T>
struct TokenBackward {
  Buffers<T> buffers;
  const int32_t* row_of_slot;
  const float* grams;
  int64_t top_k;
  double sp_scale;
  Sample sample;
  int64_t token;

  __device__ bool is_here() const { return true; }
  __device__ SpecializationPull pull() const { return {sample.contains(token) ? sp_scale : 0}; }
  __device__ const float* gram() const { return grams + token * top_k * top_k; }

  template <int N>
  __device__ void read(int64_t k, int64_t column, float (&z)[N]) const {
    recompute(buffers, row_of_slot[token * top_k + k], column, z);
  }
  template <int N>
  __device__ float finish(int64_t k, int64_t column, const float (&mixed)[N]) const {
    const int64_t slot = token * top_k + k;
    return strand::finish(buffers, row_of_slot[slot], column, buffers.gate(slot), mixed);
  }
  __device__ void write_dot(int64_t k, float dot) const {
    if (buffers.dgates != nullptr) buffers.dgates[token * top_k + k] = dot;
  }
};

}  // namespace

void CudaOps::run(const SwigluBackward& op) {
  const int64_t rows = op.dz.dim(0), width = op.dz.dim(1);
  if (rows == 0) return;
  const RowsInUse in_use = rows_in_use(op.map, rows);
  dispatch_act(op.dz.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Buffers<T> buffers{.gate_up = data<T>(op.gate_up),
                             .dz = data<T>(op.dz),
                             .weighted_z = data<T>(op.weighted_z),
                             .dgate_up = data<T>(op.dgate_up),
                             .gates = data<float>(op.gates),
                             .dgates = data<float>(op.dgates),
                             .width = width};
    const auto tensors = {&op.gate_up, &op.dz, &op.weighted_z, &op.dgate_up, &op.dz_pairs};
    if (op.sp_scale == 0) {
      with_access<8>(width, tensors, [&](auto n) {
        constexpr int N = decltype(n)::value;
        GPU_LAUNCH((swiglu_backward_rows_kernel<T, N>), blocks(ceil_div<int64_t>(rows, warps)), dim3(threads), 0,
                   stream_, in_use, buffers, data<T>(op.dz_pairs), data<int32_t>(op.pair_of_slot));
      });
      return;
    }
    const int64_t tokens = op.map.row_of_slot.dim(0), top_k = op.map.row_of_slot.dim(1);
    const TokenBackward<T> token_rows{.buffers = buffers,
                                      .row_of_slot = data<int32_t>(op.map.row_of_slot),
                                      .grams = data<float>(op.gram),
                                      .top_k = top_k,
                                      .sp_scale = op.sp_scale,
                                      .sample = sample_of(op.sample),
                                      .token = 0};
    mix_rows(stream_, token_rows, tokens, top_k, width, rows_allow(8, width, tensors), "SwigluBackward");
    zero_padding_rows(stream_, in_use, op.weighted_z);
    zero_padding_rows(stream_, in_use, op.dgate_up);
  });
}

}  // namespace strand
