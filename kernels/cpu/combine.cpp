// From expert rows back to tokens, and the orthogonality term on the expert outputs.
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/expert_rows.h"

namespace strand {
namespace {

using simd::vfloat;

constexpr double epsilon = 1e-9;  // Eq. 6 of arXiv 2505.22323

/// out (+)= Σ_k gate_k row_k over four vectors of columns at a time, so that out is read and written once.
template <typename T>
void combine_token(const TokenRows<T>& rows, int64_t top_k, const float* gates, Write write, float* out) {
  constexpr int unroll = 4;
  const auto gate = [&](int64_t k) { return gates ? gates[k] : 1.0f; };
  int64_t i = 0;
  for (; i + unroll * simd::width <= rows.width; i += unroll * simd::width) {
    vfloat sum[unroll] = {};
    if (write == Write::accumulate) {
      for (int u = 0; u < unroll; ++u) sum[u] = simd::load(out + i + u * simd::width);
    }
    for (int64_t k = 0; k < top_k; ++k) {
      const T* row = rows[k] + i;
      for (int u = 0; u < unroll; ++u) sum[u] += gate(k) * simd::load(row + u * simd::width);
    }
    for (int u = 0; u < unroll; ++u) simd::store(out + i + u * simd::width, sum[u]);
  }
  simd::for_lanes(rows.width - i, [&](int64_t j, auto lanes) {
    vfloat sum = write == Write::accumulate ? simd::load(out + i + j, lanes) : vfloat{};
    for (int64_t k = 0; k < top_k; ++k) sum += gate(k) * simd::load(rows[k] + i + j, lanes);
    simd::store(out + i + j, sum, lanes);
  });
}

template <typename T>
void combine_tokens(const CombineRows& op) {
  const int64_t width = op.rows.dim(1), top_k = op.map.row_of_slot.dim(1);
  const float* gates = op.gates ? op.gates.as<float>() : nullptr;
  float* gram = op.gram ? op.gram.as<float>() : nullptr;
  for_blocks(op.map.row_of_slot.dim(0), row_block, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t t = begin; t < end; ++t) {
      const TokenRows<T> rows{op.rows.as<T>(), op.map.row_of_slot.as<int32_t>() + t * top_k, width};
      combine_token(rows, top_k, gates ? gates + t * top_k : nullptr, op.write, op.out.as<float>() + t * width);
      if (gram) gram_of_rows(rows, top_k, gram + t * top_k * top_k);
    }
  });
}

/// Σ_{i≠j} gram_ij² gram_jj / (gram_jj + ε)²
double orthogonality(const float* gram, int64_t top_k) {
  double total = 0;
  for (int64_t j = 0; j < top_k; ++j) {
    const double jj = gram[j * top_k + j];
    double squares = 0;
    for (int64_t i = 0; i < top_k; ++i) {
      if (i != j) squares += static_cast<double>(gram[i * top_k + j]) * gram[i * top_k + j];
    }
    total += squares * jj / ((jj + epsilon) * (jj + epsilon));
  }
  return total;
}

/// pull_ij = o_scale (∂O/∂gram_ij + ∂O/∂gram_ji): dy_i gets Σ_j pull_ij y_j.
void orthogonality_pull(const float* gram, int64_t top_k, double o_scale, float* pull) {
  const auto weight = [&](int64_t j) {
    const double jj = gram[j * top_k + j];
    return jj / ((jj + epsilon) * (jj + epsilon));
  };
  for (int64_t i = 0; i < top_k; ++i) {
    const double ii = gram[i * top_k + i], shifted = ii + epsilon;
    double squares = 0;
    for (int64_t j = 0; j < top_k; ++j) {
      if (j == i) continue;
      const double ij = gram[i * top_k + j];
      squares += ij * ij;
      pull[i * top_k + j] = static_cast<float>(2 * o_scale * ij * (weight(i) + weight(j)));
    }
    // d/dx of x / (x + ε)² is (ε − x) / (x + ε)³; gram_ii = ⟨y_i, y_i⟩ counts y_i twice.
    pull[i * top_k + i] = static_cast<float>(2 * o_scale * squares * (epsilon - ii) / (shifted * shifted * shifted));
  }
}

template <typename T>
void combine_backward_token(const T* dout, const TokenRows<T>& y, const TokenRows<T>& dy, int64_t top_k,
                            const float* gates, const float* pull, float* dgates) {
  for (int64_t i = 0; i < top_k; ++i) {
    dgates[i] = simd::dot(dout, y[i], y.width);
    T* out = dy[i];
    simd::for_lanes(y.width, [&](int64_t c, auto lanes) {
      vfloat sum = gates[i] * simd::load(dout + c, lanes);
      for (int64_t j = 0; j < top_k; ++j) sum += pull[i * top_k + j] * simd::load(y[j] + c, lanes);
      simd::store(out + c, sum, lanes);
    });
  }
}

struct PullBuffers {
  PullBuffers(Workspace& memory, const CombineBackward& op) : pull(memory, square(op.map.row_of_slot.dim(1))) {}
  ThreadBuffers pull;  ///< [K, K]

 private:
  static int64_t square(int64_t x) { return x * x; }
};

template <typename T>
void combine_backward_tokens(const CombineBackward& op, const PullBuffers& buffers) {
  const int64_t width = op.y.dim(1), top_k = op.map.row_of_slot.dim(1);
  for_blocks(op.dout.dim(0), row_block, [&](int64_t begin, int64_t end, int64_t) {
    float* pull = buffers.pull.mine();
    for (int64_t t = begin; t < end; ++t) {
      const int32_t* row_of_slot = op.map.row_of_slot.as<int32_t>() + t * top_k;
      orthogonality_pull(op.gram.as<float>() + t * top_k * top_k, top_k, op.o_scale, pull);
      combine_backward_token<T>(op.dout.as<T>() + t * width, {op.y.as<T>(), row_of_slot, width},
                                {op.dy.as<T>(), row_of_slot, width}, top_k, op.gates.as<float>() + t * top_k, pull,
                                op.dgates.as<float>() + t * top_k);
    }
  });
  zero_padding_rows(op.map, op.dy.as<T>(), width);
}

struct TermBuffers : PartialSums {
  TermBuffers(Workspace& memory, const OrthogonalityTerm& op) : PartialSums(memory, op.gram.dim(0)) {}
};

}  // namespace

void CpuOps::run(const CombineRows& op) {
  dispatch_act(op.rows.dtype, [&](auto tag) { combine_tokens<typename decltype(tag)::type>(op); });
}

void CpuOps::run(const OrthogonalityTerm& op) {
  const int64_t top_k = op.gram.dim(1);
  const float* gram = op.gram.as<float>();
  const double total = sum_over_blocks(op.gram.dim(0), buffers<TermBuffers>(op), [&](int64_t begin, int64_t end) {
    double sum = 0;
    for (int64_t t = begin; t < end; ++t) sum += orthogonality(gram + t * top_k * top_k, top_k);
    return sum;
  });
  *op.o.as<double>() += op.o_scale * total;
}

void CpuOps::run(const CombineBackward& op) {
  const auto memory = buffers<PullBuffers>(op);
  dispatch_act(op.y.dtype, [&](auto tag) { combine_backward_tokens<typename decltype(tag)::type>(op, memory); });
}

size_t CpuWorkspaces::bytes(const OrthogonalityTerm& op) const {
  return workspace_bytes<TermBuffers>(op);
}
size_t CpuWorkspaces::bytes(const CombineBackward& op) const {
  return workspace_bytes<PullBuffers>(op);
}

}  // namespace strand
