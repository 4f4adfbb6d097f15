// Everything between the two matrix products of the experts' backward, in one pass over the rows of each token.
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/expert_rows.h"
#include "kernels/cpu/specialization.h"
#include "kernels/host_numbers.h"

namespace strand {
namespace {

using simd::vfloat;

/// One row of the buffers. dgate_up may be gate_up and weighted_z may be dz: a lane is read before it is written.
template <typename T>
struct Row {
  const T* gate_up;
  const T* dz;
  T* weighted_z;
  T* dgate_up;
};

/// Writes one group of lanes, given z (as act), sigmoid(gate) and what the partners add to dz; returns dz' ⊙ z.
template <typename T, typename Lanes>
inline vfloat finish_lanes(const Row<T>& row, int64_t width, int64_t i, Lanes lanes, float weight, vfloat sigmoid,
                           vfloat z, vfloat partners) {
  const vfloat gate = simd::load(row.gate_up + i, lanes), up = simd::load(row.gate_up + width + i, lanes);
  const vfloat incoming = simd::load(row.dz + i, lanes);
  const vfloat dz = weight * incoming + partners;
  const vfloat silu = gate * sigmoid;
  simd::store(row.weighted_z + i, weight * z, lanes);
  simd::store(row.dgate_up + i, dz * up * (sigmoid + silu * (1.0f - sigmoid)), lanes);
  simd::store(row.dgate_up + width + i, dz * silu, lanes);
  return incoming * z;
}

/// The pairs of a row that has none.
constexpr auto no_pairs = [](int64_t, auto) { return vfloat{}; };

/// Without partners here: z of these lanes is computed and used at once. pairs(i, lanes) is added to dz. Returns ⟨dz',
/// z⟩.
template <typename T, typename Pairs>
float backward_row(const Row<T>& row, int64_t width, float weight, const Pairs& pairs) {
  vfloat dot{};
  simd::for_lanes(width, [&](int64_t i, auto lanes) {
    const vfloat gate = simd::load(row.gate_up + i, lanes), up = simd::load(row.gate_up + width + i, lanes);
    const vfloat sigmoid = simd::sigmoid(gate);
    const vfloat z = simd::round_to<T>(gate * sigmoid * up);
    dot += finish_lanes(row, width, i, lanes, weight, sigmoid, z, pairs(i, lanes));
  });
  return simd::sum(dot);
}

/// A token's z and sigmoid(gate), kept in the L1 cache while its rows need each other; rows `stride` floats apart.
struct TokenBuffer {
  float* z;        ///< [K, stride]
  float* sigmoid;  ///< [K, stride]
  float* pull;     ///< [K, K]: partners of row i add Σ_j pull_ij z_j to its dz
  int64_t stride;
};

/// It also prefetches what the second pass over the row will read and write, because this pass alone would leave the
/// memory idle while it computes.
template <typename T>
void recompute_row(const Row<T>& row, int64_t width, float* z, float* sigmoids) {
  simd::for_lanes(width, [&](int64_t i, auto lanes) {
    __builtin_prefetch(row.dz + i);
    __builtin_prefetch(row.weighted_z + i, 1);
    __builtin_prefetch(row.dgate_up + i, 1);
    __builtin_prefetch(row.dgate_up + width + i, 1);
    const vfloat gate = simd::load(row.gate_up + i, lanes), up = simd::load(row.gate_up + width + i, lanes);
    const vfloat sigmoid = simd::sigmoid(gate);
    simd::store(sigmoids + i, sigmoid);  // whole vectors: past the end of the row z is 0
    simd::store(z + i, simd::round_to<T>(gate * sigmoid * up));
  });
}

/// With partners. `partners` is top_k as a constant where it is small, so that the sum over rows unrolls.
template <typename T, typename Count>
float backward_row_with_partners(const Row<T>& row, int64_t width, float weight, const TokenBuffer& buffer, int64_t k,
                                 Count partners) {
  const float* pull = buffer.pull + k * partners;
  vfloat dot{};
  simd::for_lanes(width, [&](int64_t i, auto lanes) {
    vfloat sum{};
    for (int64_t j = 0; j < partners; ++j) sum += pull[j] * simd::load(buffer.z + j * buffer.stride + i);
    const vfloat sigmoid = simd::load(buffer.sigmoid + k * buffer.stride + i);
    const vfloat z = simd::load(buffer.z + k * buffer.stride + i);
    dot += finish_lanes(row, width, i, lanes, weight, sigmoid, z, sum);
  });
  return simd::sum(dot);
}

template <typename T>
class TokenBackward {
 public:
  explicit TokenBackward(const SwigluBackward& op)
      : op_(op),
        width_(op.dz.dim(1)),
        top_k_(op.map ? op.map.row_of_slot.dim(1) : 1),
        gates_(op.gates ? op.gates.as<float>() : nullptr),
        dgates_(op.dgates ? op.dgates.as<float>() : nullptr) {}

  int64_t buffer_floats() const { return 2 * top_k_ * stride() + top_k_ * top_k_; }

  Row<T> row(int64_t r) const {
    return {op_.gate_up.as<T>() + r * 2 * width_, op_.dz.as<T>() + r * width_, op_.weighted_z.as<T>() + r * width_,
            op_.dgate_up.as<T>() + r * 2 * width_};
  }

  void token(int64_t t) const {
    for (int64_t k = 0; k < top_k_; ++k) {
      write_dgate(t, k, backward_row(slot_row(t, k), width_, weight(t, k), no_pairs));
    }
  }

  void token_with_given_pairs(int64_t t) const {
    for (int64_t k = 0; k < top_k_; ++k) {
      const int32_t pair = op_.pair_of_slot.as<int32_t>()[t * top_k_ + k];
      if (pair < 0) {
        write_dgate(t, k, backward_row(slot_row(t, k), width_, weight(t, k), no_pairs));
      } else {
        const T* row_of_pairs = op_.dz_pairs.as<T>() + pair * width_;
        const auto pairs = [&](int64_t i, auto lanes) { return simd::load(row_of_pairs + i, lanes); };
        write_dgate(t, k, backward_row(slot_row(t, k), width_, weight(t, k), pairs));
      }
    }
  }

  void token_with_partners(int64_t t, float* memory) const {
    const TokenBuffer buffer{memory, memory + top_k_ * stride(), memory + 2 * top_k_ * stride(), stride()};
    specialization_pull(op_.gram.as<float>() + t * top_k_ * top_k_, top_k_, op_.sp_scale, buffer.pull);
    for (int64_t k = 0; k < top_k_; ++k) {
      recompute_row(slot_row(t, k), width_, buffer.z + k * stride(), buffer.sigmoid + k * stride());
    }
    with_top_k(top_k_, [&](auto partners) {
      for (int64_t k = 0; k < top_k_; ++k) {
        write_dgate(t, k, backward_row_with_partners(slot_row(t, k), width_, weight(t, k), buffer, k, partners));
      }
    });
  }

 private:
  /// Rows of the buffer end on a whole vector, so that partner rows are read without a tail.
  int64_t stride() const { return blocks_of(width_, simd::width) * simd::width; }
  Row<T> slot_row(int64_t t, int64_t k) const { return row(op_.map.row_of_slot.as<int32_t>()[t * top_k_ + k]); }
  float weight(int64_t t, int64_t k) const { return gates_ ? gates_[t * top_k_ + k] : 1.0f; }
  void write_dgate(int64_t t, int64_t k, float value) const {
    if (dgates_) dgates_[t * top_k_ + k] = value;
  }

  const SwigluBackward& op_;
  int64_t width_, top_k_;
  const float* gates_;
  float* dgates_;
};

template <typename T>
void backward_rows(const SwigluBackward& op) {
  const TokenBackward<T> backward(op);
  const int64_t width = op.dz.dim(1);
  for_blocks(op.dz.dim(0), row_block, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t r = begin; r < end; ++r) backward_row(backward.row(r), width, 1.0f, no_pairs);
  });
}

bool has_partners(const SwigluBackward& op) {
  return op.map && op.sp_scale != 0 && op.map.row_of_slot.dim(1) > 1;
}

struct PartnerBuffers {
  PartnerBuffers(Workspace& memory, const SwigluBackward& op)
      : token(memory, has_partners(op) ? TokenBackward<float>(op).buffer_floats() : 0) {}
  ThreadBuffers token;
};

template <typename T>
void backward_tokens(const SwigluBackward& op, const PartnerBuffers& buffers) {
  const TokenBackward<T> backward(op);
  const HostSample sample(op.sample);
  const bool partners = has_partners(op);
  for_blocks(op.map.row_of_slot.dim(0), row_block, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t t = begin; t < end; ++t) {
      if (partners && sample.contains(t)) {
        backward.token_with_partners(t, buffers.token.mine());
      } else if (op.dz_pairs) {
        backward.token_with_given_pairs(t);
      } else {
        backward.token(t);
      }
    }
  });
  zero_padding_rows(op.map, op.weighted_z.as<T>(), op.weighted_z.dim(1));
  zero_padding_rows(op.map, op.dgate_up.as<T>(), op.dgate_up.dim(1));
}

}  // namespace

void CpuOps::run(const SwigluBackward& op) {
  const auto memory = buffers<PartnerBuffers>(op);
  dispatch_act(op.dz.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    op.map ? backward_tokens<T>(op, memory) : backward_rows<T>(op);
  });
}

size_t CpuWorkspaces::bytes(const SwigluBackward& op) const {
  return workspace_bytes<PartnerBuffers>(op);
}

}  // namespace strand
