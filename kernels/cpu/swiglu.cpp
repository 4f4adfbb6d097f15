// SwiGLU of expert rows with the Gram matrix of each token's rows, and the specialization term that needs no more.
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/expert_rows.h"
#include "kernels/cpu/specialization.h"
#include "kernels/host_numbers.h"

namespace strand {
namespace {

/// z = silu(gate) ⊙ up
template <typename T>
void swiglu_row(const T* gate, T* z, int64_t width) {
  const T* up = gate + width;
  simd::for_lanes(width, [&](int64_t i, auto lanes) {
    const simd::vfloat g = simd::load(gate + i, lanes);
    simd::store(z + i, g * simd::sigmoid(g) * simd::load(up + i, lanes), lanes);
  });
}

template <typename T>
void swiglu_rows(const Swiglu& op) {
  const int64_t width = op.z.dim(1);
  for_blocks(op.z.dim(0), row_block, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t row = begin; row < end; ++row) {
      swiglu_row(op.gate_up.as<T>() + row * 2 * width, op.z.as<T>() + row * width, width);
    }
  });
}

template <typename T>
void swiglu_tokens(const Swiglu& op) {
  const int64_t width = op.z.dim(1), top_k = op.map.row_of_slot.dim(1);
  const int32_t* row_of_slot = op.map.row_of_slot.as<int32_t>();
  float* gram = op.gram ? op.gram.as<float>() : nullptr;
  for_blocks(op.map.row_of_slot.dim(0), row_block, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t t = begin; t < end; ++t) {
      const TokenRows<T> gate_up{op.gate_up.as<T>(), row_of_slot + t * top_k, 2 * width};
      const TokenRows<T> z{op.z.as<T>(), row_of_slot + t * top_k, width};
      for (int64_t k = 0; k < top_k; ++k) swiglu_row(gate_up[k], z[k], width);
      if (gram) gram_of_rows(z, top_k, gram + t * top_k * top_k);
    }
  });
  zero_padding_rows(op.map, op.z.as<T>(), width);
}

struct TermBuffers : PartialSums {
  TermBuffers(Workspace& memory, const SpecializationTerm& op) : PartialSums(memory, op.gram.dim(0)) {}
};

}  // namespace

void CpuOps::run(const Swiglu& op) {
  dispatch_act(op.z.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    op.map ? swiglu_tokens<T>(op) : swiglu_rows<T>(op);
  });
}

void CpuOps::run(const SpecializationTerm& op) {
  const int64_t top_k = op.gram.dim(1);
  const HostSample sample(op.sample);
  const float* gram = op.gram.as<float>();
  const double total = sum_over_blocks(op.gram.dim(0), buffers<TermBuffers>(op), [&](int64_t begin, int64_t end) {
    double sum = 0;
    for (int64_t t = begin; t < end; ++t) {
      if (sample.contains(t)) sum += sum_of_squared_cosines(gram + t * top_k * top_k, top_k);
    }
    return sum;
  });
  *op.sp.as<double>() += op.sp_scale * total;
}

size_t CpuWorkspaces::bytes(const SpecializationTerm& op) const {
  return workspace_bytes<TermBuffers>(op);
}

}  // namespace strand
